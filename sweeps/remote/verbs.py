"""`sweep stop`, `sweep logs` and `sweep attach`: a sweep that runs as a job on a cluster."""

import sys

import click

from sweeps.options import FAILED, INTERRUPTED, JobsAddress, sentences, study_argument

_address = click.option(
    "--address", type=JobsAddress(), required=True, help="Where it runs: http://HOST:8265, or ray://HOST:10001."
)


@click.command()
@study_argument
@_address
def attach(study: str, address: str) -> None:
    """Follow a sweep that runs on a cluster; Ctrl-C leaves it running. The exit code is the sweep's."""
    from sweeps.remote.follow import Said, follow, last_lines

    with sentences():
        jobs, job = _found(study, address)
        sys.exit(follow(jobs, job, Said(study, address), last_lines(jobs.log(job))))


@click.command()
@study_argument
@_address
def logs(study: str, address: str) -> None:
    """Print all that a sweep on a cluster has said."""
    with sentences():
        jobs, job = _found(study, address)
        click.echo(jobs.log(job), nl=False)


@click.command()
@study_argument
@_address
def stop(study: str, address: str) -> None:
    """End a sweep on a cluster as Ctrl-C does here.

    Trials write a checkpoint, and `sweep resume` goes on.
    """
    from sweeps.remote.follow import Said, follow

    with sentences():
        jobs, job = _found(study, address)
        if job.is_over:
            click.echo(f"The sweep '{job.metadata['sweep']}' does not run there: its job '{job.id}' is {job.status}.")
            return
        seen = len(jobs.log(job))
        jobs.stop(job)
        said = Said(study, address)
        code = follow(jobs, job, said, seen)
        if code == INTERRUPTED:
            sys.exit(code)
        ended = jobs.info(job)
        click.echo(f"The job '{job.id}' is {ended.status}.")
        sys.exit(0 if ended.status in ("STOPPED", "SUCCEEDED") else FAILED)


def _found(study: str, address: str) -> tuple:  # type: ignore[type-arg]
    from sweeps.remote.jobs import Jobs
    from sweeps.source import named
    from sweeps.stored import RequestError

    name, _ = named(study)
    jobs = Jobs(address)
    job = jobs.find(name)
    if job is None:
        raise RequestError(f"no sweep '{name}' has run at {jobs.url}; `sweep launch --address {address}` starts one")
    return jobs, job
