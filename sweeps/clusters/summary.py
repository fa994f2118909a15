"""A sound manifest in a few lines: what it starts, what there can be at most, how many trials that holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sweeps.clusters.check.sizes import nodes
from sweeps.clusters.check.timing import reckoned
from sweeps.clusters.manifest import Document
from sweeps.clusters.pools import Group, Pool, pools

if TYPE_CHECKING:
    from sweeps.study import Study


def summary(documents: list[Document], study: "Study | None") -> Iterator[str]:
    """Lines of text; counts are of machines at the pool's largest."""
    found = [pool for document in documents for pool in pools(document)]
    for pool in found:
        yield f"{pool.document.name}: a head of {pool.head.cpus:g} CPUs that stays, and workers that come and go:"
        for group, count in zip(pool.workers, pool.counts(), strict=True):
            each = f"{group.cpus:g} CPUs, {group.gpus:g} GPUs"
            yield f"  {group.name}: {group.least} to {count} of {each}; {_idle(group)}"
        if len(pool.workers) > 1 and pool.most_workers < sum(pool.counts()):
            yield f"  no more than {pool.most_workers:g} of all kinds together"
        yield f"  waits are held against {reckoned(pool)}"
        if study is not None:
            yield f"  {_room(pool, study)}"
    if not found:
        yield f"{', '.join(document.name for document in documents)}: no problem found"


def _idle(group: Group) -> str:
    return f"given back after {(group.idle_seconds or 0) / 60:g} idle minutes"


def _room(pool: Pool, study: "Study") -> str:
    from trainables.resources import Demand, capacity

    wanted = study.resources
    demand = Demand(wanted.workers, wanted.cpus, wanted.gpus)
    slots = capacity(demand, nodes(pool, Demand(1, wanted.cpus, wanted.gpus)))
    at_once = min(slots, wanted.at_once or slots, study.num_trials())
    return f"{study.name}: {at_once} of its {study.num_trials()} trials at a time at the pool's largest"
