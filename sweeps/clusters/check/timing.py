"""Waiting times against the time a machine takes to start: what is shorter starts machines for nothing."""

from collections.abc import Iterator

from sweeps.clusters.check.settings import settings
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, number_at
from sweeps.clusters.pools import NOTE, Group, Pool, pools, quantity
from sweeps.source import dotted

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
DEFAULT_START_SECONDS = 6000.0  # what `sweep launch` sets where nobody does: see ``pool.node_patience``


def timing_faults(document: Document) -> Iterator[Fault]:
    """Idle and start timeouts that are too short."""
    for pool in pools(document):
        yield from _idle(pool)
        yield from _start(pool)
        deadline = number_at(document.value, "spec", "preRunningDeadlineSeconds")
        if deadline is not None and deadline < 60 * pool.start_minutes:
            sentence = f"the job would be given up before its head could start: expected at least {reckoned(pool)}"
            yield ("spec", "preRunningDeadlineSeconds"), f"{sentence}, got {deadline / 60:g} minutes"


def reckoned(pool: Pool) -> str:
    """How long a machine takes, and who says so."""
    minutes = f"{pool.start_minutes:g} minutes"
    if pool.start_keys:
        return f"the {minutes} that a machine takes to start ({dotted(pool.start_keys)} in this file)"
    place = "metadata.node_start_minutes" if pool.document.kind == LAUNCHER else f"the annotation {NOTE}"
    return f"the {minutes} that we reckon a machine takes to start (say what you measured in {place})"


def _idle(pool: Pool) -> Iterator[Fault]:
    seen = set()
    owners: tuple[Group | Pool, ...] = (*pool.workers, pool)
    for each in owners:
        if each.idle_seconds is None or each.idle_keys in seen or each.idle_seconds > 60 * pool.start_minutes:
            continue
        seen.add(each.idle_keys)
        yield (
            each.idle_keys,
            (
                f"machines would come and go without doing any work: expected more than {reckoned(pool)}, "
                f"got {each.idle_seconds / 60:g} minutes"
            ),
        )


def _start(pool: Pool) -> Iterator[Fault]:
    needed = 60 * pool.start_minutes
    given = [setting for setting in settings(pool.document) if setting.name == START_TIMEOUT]
    for setting in given:
        if quantity(setting.value) < needed:
            yield (
                setting.keys,
                (
                    f"trials of several workers would not wait for their machines: expected {START_TIMEOUT} "
                    f"of at least {reckoned(pool)}, {needed:g} seconds, got {setting.value}"
                ),
            )
    if not given and needed > DEFAULT_START_SECONDS:
        yield (
            pool.start_keys,
            (
                f"trials of several workers would not wait for their machines ({DEFAULT_START_SECONDS:g} seconds); "
                f"expected {START_TIMEOUT} in the head's environment, of at least {needed:g}"
            ),
        )
