"""What a job prints, here, until it ends: over lost connections, and until Ctrl-C, which leaves it running."""

import asyncio
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass

import click

from sweeps.options import FAILED, INTERRUPTED
from sweeps.remote.jobs import Job, Jobs, ServerAway

PATIENCE = 900.0  # seconds without an answer
_PAUSE = 1.0  # seconds between two connections
_TAIL = 20  # lines


@dataclass(frozen=True)
class Said:
    """The user's own words for a sweep, for commands that are ready to be pasted."""

    study: str
    address: str

    def command(self, verb: str) -> str:
        """``sweep stop alpha_study --address http://head:8265``"""
        return shlex.join(["sweep", verb, self.study, "--address", self.address])


def follow(jobs: Jobs, job: Job, said: Said, seen: int = 0) -> int:
    """Print all but the first ``seen`` characters until the job ends; the exit code of its driver."""
    try:
        log = _Log(jobs, job, seen)
        while True:
            with suppress(Exception):  # whatever networks and proxies do to a connection; the next question is plain
                asyncio.run(log.tail())
            now = _now(jobs, job)
            with suppress(ServerAway):
                log.rest()
                if now.is_over:
                    return outcome(now)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        click.echo(
            f"\ndetached; the sweep goes on there: `{said.command('attach')}` follows it again, "
            f"`{said.command('stop')}` ends it",
            err=True,
        )
        return INTERRUPTED


def outcome(job: Job) -> int:
    """The exit code, and a sentence where the job's own words do not say what happened."""
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "FAILED" and job.exit_code is None:
        click.echo(f"the job '{job.id}' could not run: {' '.join(job.message.split())[:1000]}", err=True)
    return job.exit_code or FAILED


def last_lines(text: str) -> int:
    """How many characters come before the last lines."""
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[:-_TAIL]))


def _now(jobs: Jobs, job: Job) -> Job:
    try:
        return jobs.info(job)
    except ServerAway as error:
        click.echo(f"{error}; trying again for {PATIENCE / 60:g} minutes", err=True)
        return jobs.patiently(lambda: jobs.info(job), PATIENCE)


class _Log:
    """How much of a log was printed; each connection begins at its beginning."""

    def __init__(self, jobs: Jobs, job: Job, seen: int) -> None:
        self._jobs, self._job, self._seen = jobs, job, seen

    async def tail(self) -> None:
        """As long as the connection lasts."""
        passed = 0
        async for piece in self._jobs.tail(self._job):
            passed += len(piece)
            self._print(piece, passed)

    def rest(self) -> None:
        """What no connection has brought."""
        text = self._jobs.log(self._job)
        self._print(text, len(text))

    def _print(self, piece: str, end: int) -> None:
        """``end`` is where the piece ends in the log."""
        new = end - self._seen
        if new > 0:
            click.echo(piece[-new:], nl=False)
            self._seen = end
