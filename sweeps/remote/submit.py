"""`sweep launch`, `resume` and `certify` with a jobs address: check, pack, show the plan, send, follow.

The next hop is ``sweeps.remote.inside``, on the cluster's head, through Ray Jobs.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from robustcore.addresses import without_secrets
from sweeps.options import Cluster, Strengthening
from sweeps.places import remote_places
from sweeps.remote.cargo import Cargo, cargo_of
from sweeps.remote.follow import Said, follow
from sweeps.remote.inputs import Input, input_problems, inputs_of, is_shared
from sweeps.remote.jobs import Job, Jobs
from sweeps.remote.order import STOP_WAIT, Order, sent_study
from sweeps.source import StudyError, absolute_storage, named, read_source
from sweeps.source.settings import flat
from sweeps.stored import RequestError
from sweeps.study import Study, draft_study

_ENTRY = "exec python -m sweeps.remote.inside"
_HOOK = "sweeps.remote.shipped.link_inputs"


def submit_launch(
    study: str, settings: Sequence[str], storage: str | None, cluster: Cluster, wanted: Strengthening | None
) -> int:
    """Launch a study there, or attach to the sweep of that name that runs; its exit code. Raises RequestError."""
    if storage is not None:
        settings = (*settings, f"storage={storage}")
    loaded, source = _loaded(study, settings)
    _check_storage(loaded.storage, cluster.shared)
    problems = list(input_problems(loaded, source, cluster.shared))
    inputs, seen = inputs_of(loaded, source, cluster.shared)
    elsewhere = [without_secrets(uri) for uri in remote_places(loaded.plain).values()] + [str(path) for path in seen]
    if problems:
        raise StudyError(problems)
    cargo = cargo_of(list(inputs.values()), elsewhere)
    cargo.check()
    jobs = _jobs(cluster)
    if not elsewhere and (problems := _check(study, settings)):  # all that it names is here
        raise StudyError(problems)
    sent = sent_study(loaded, inputs, source.folder)
    words = _said(cluster)
    order = Order("launch", loaded.name, study, words, loaded.storage, sent, wanted=wanted, force=cluster.force)
    return _submit(order, cargo, jobs, cluster)


def submit_again(
    verb: Literal["resume", "certify"],
    study: str,
    storage: str | None,
    cluster: Cluster,
    wanted: Strengthening | None,
    settings: tuple[str, ...] = (),
    trials: int | None = None,
) -> int:
    """Go on with a launched study there, or certify it; its files are sent anew where the study is at hand."""
    name, own_storage = named(study)
    inputs: dict[Path, Input] = {}
    try:
        loaded, source = _loaded(study, ())
        inputs, _ = inputs_of(loaded, source, cluster.shared)
        inputs = {path: each for path, each in inputs.items() if each.files}
    except StudyError:
        pass  # only its name is needed, and its files if they were sent with the launch
    place = absolute_storage(storage) if storage else own_storage
    _check_storage(place, cluster.shared)
    cargo = cargo_of(list(inputs.values()), ())
    cargo.check()
    order = Order(verb, name, study, _said(cluster), place, None, settings, trials, wanted, cluster.force)
    return _submit(order, cargo, _jobs(cluster), cluster)


def _said(cluster: Cluster) -> tuple[str, ...]:
    return ("--address", cluster.address, *(word for folder in cluster.shared for word in ("--shared", str(folder))))


def _loaded(study: str, settings: Sequence[str]) -> tuple[Study, Any]:
    source = read_source(study, settings)
    loaded, problems, _ = draft_study(source)
    if loaded is None:
        raise StudyError(problems)
    return loaded, source


def _check(study: str, settings: Sequence[str]) -> list[Any]:
    """Data and weights are opened here; storage is the cluster's affair."""
    from sweeps.check import check_contents

    return list(check_contents(read_source(study, settings)))


def _submit(order: Order, cargo: Cargo, jobs: Jobs, cluster: Cluster) -> int:
    check_secrets(order)
    said = Said(order.path, cluster.address)
    job = jobs.find(order.name)
    if job is None or job.is_over:
        job = _send(order, cargo, jobs, job)
    else:
        _check_same(job, order)
        click.echo(f"The sweep '{order.name}' runs there already, as the job '{job.id}': it is not started twice.")
    if cluster.detach:
        click.echo(f"`{said.command('attach')}` follows it, `{said.command('stop')}` ends it.")
        return 0
    return follow(jobs, job, said)


def _send(order: Order, cargo: Cargo, jobs: Jobs, before: Job | None) -> Job:
    click.echo(f"The sweep '{order.name}' goes to {jobs.url}:")
    for line in cargo.plan():
        click.echo(line)
    with tempfile.TemporaryDirectory(prefix="sweep-job-") as scratch:
        archive = Path(scratch) / f"{order.name}.zip"
        cargo.pack(order.as_json(), archive)
        environment: dict[str, Any] = {
            "working_dir": str(archive),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT)},
        }
        if cargo.inputs:
            environment["worker_process_setup_hook"] = _HOOK
        metadata = {"sweep": order.name, "verb": order.verb, "storage": without_secrets(order.storage)}
        job = jobs.submit(order.name, before, entrypoint=_ENTRY, runtime_env=environment, metadata=metadata)
    if job is None:  # another launch was quicker
        job = jobs.find(order.name)
        if job is None:
            raise RequestError(f"the job '{order.name}' came and went at {jobs.url}; try again")
    click.echo(f"It runs as the job '{job.id}'.")
    return job


def _check_storage(storage: str, shared: Sequence[Path]) -> None:
    """Results of many machines cannot go to the disk of one."""
    is_local = "://" not in storage or storage.startswith("file:")  # no client is asked: only the cluster needs one
    if is_local and not is_shared(Path(storage.removeprefix("file://")), shared):
        raise RequestError(
            f"storage: {storage} is a folder of one machine; expected object storage such as s3://bucket/sweeps, or a "
            "folder that all machines of the cluster see under one path, which --shared FOLDER says"
        )


def check_secrets(order: Order) -> None:
    """Whoever may look at the cluster could read them."""
    for word in flat(order.as_json()).values():
        if "://" in str(word) and without_secrets(str(word)) != str(word):
            found = re.search(r"[a-z0-9+.-]+://[^/@\s]+@\S*", str(word))
            raise RequestError(
                f"{without_secrets(found[0] if found else '')}: a user or a password in an address would lie on the "
                "cluster for others to read; expected them in the environment of its machines, such as "
                "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or MLFLOW_TRACKING_TOKEN"
            )


def _jobs(cluster: Cluster) -> Jobs:
    """The server, if it runs the Ray that this version is made for."""
    import ray

    jobs = Jobs(cluster.address)
    here, there = (version.split(".")[:2] for version in (ray.__version__, jobs.ray_version))
    if here != there:
        raise RequestError(
            f"the cluster at {jobs.url} runs Ray {jobs.ray_version}, expected {'.'.join(here)}, for which this version "
            "of robust-sweeps is made; nothing was sent"
        )
    return jobs


def _check_same(job: Job, order: Order) -> None:
    """One name, two sweeps: to attach would show the wrong one."""
    if job.metadata.get("storage") != without_secrets(order.storage):
        raise RequestError(
            f"another sweep runs there under the name '{order.name}', with the storage {job.metadata.get('storage')}; "
            "expected another name (`--set name=...`)"
        )
