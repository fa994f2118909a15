"""How many machines there may be, and whether a study's trials fit them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sweeps.clusters.machines import MACHINES, SPOT_ALONE, machine_of
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, list_at, mapping_at, number_at, text_at
from sweeps.clusters.pools import Group, Pool, cluster_keys, pools
from sweeps.source import did_you_mean
from sweeps.source.marked import KeyPath

if TYPE_CHECKING:
    from sweeps.study import Study
    from trainables.resources import Demand, Node


def size_faults(document: Document) -> Iterator[Fault]:
    """Limits that contradict each other, machines that have not what the file says, a head without CPUs."""
    for pool in pools(document):
        yield from _limits(pool)
        if pool.head.cpus < 1 and pool.head.keys != ("head_node_type",):  # that there is no such type is said below
            keys = (*pool.head.keys, *_cpus_key(document))
            yield keys, f"the head has no CPU for what drives sweeps; expected at least 1, got {pool.head.cpus:g}"
    if document.kind == LAUNCHER:
        yield from _node_types(document)
    for cluster in cluster_keys(document):
        for position, group in enumerate(list_at(document.value, *cluster, "workerGroupSpecs")):
            least, most = number_at(group, "minReplicas"), number_at(group, "maxReplicas")
            wanted = number_at(group, "replicas")
            if wanted is not None and None not in (least, most) and not (least or 0) <= wanted <= (most or 0):
                keys = (*cluster, "workerGroupSpecs", position, "replicas")
                yield keys, f"expected a number from minReplicas to maxReplicas ({least:g} to {most:g}), got {wanted:g}"


def _cpus_key(document: Document) -> tuple[str, ...]:
    return ("resources", "CPU") if document.kind == LAUNCHER else ("rayStartParams", "num-cpus")


def _limits(pool: Pool) -> Iterator[Fault]:
    of_launcher = pool.document.kind == LAUNCHER
    for group in pool.workers:
        key = "max_workers" if of_launcher else "maxReplicas"
        least = "min_workers" if of_launcher else "minReplicas"
        if group.least < 0:
            yield (*group.keys, least), f"expected at least 0, got {group.least}"
        elif group.most < group.least:
            yield (*group.keys, key), f"expected at least {least}, {group.least}, got {group.most}"
    total = sum(group.least for group in pool.workers)
    if pool.most_workers < total:
        yield (
            ("max_workers",),
            (f"expected at least the sum of all min_workers, {total}, got {pool.most_workers:g}: Ray would not start"),
        )
    elif not sum(pool.counts()):
        place = ("max_workers",) if of_launcher else (*pool.keys, "workerGroupSpecs")
        yield place, "the pool can never have a worker; expected room for at least one"


def _node_types(document: Document) -> Iterator[Fault]:
    types, head = mapping_at(document.value, "available_node_types"), text_at(document.value, "head_node_type")
    if head and head not in types:
        near = did_you_mean(head, list(types)) or f", expected one of: {', '.join(types)}"
        yield ("head_node_type",), f"no such node type in available_node_types{near}"
    elif head and number_at(types, head, "max_workers"):
        yield ("available_node_types", head, "max_workers"), "workers of the head's type cost the same; expected 0"
    cloud = text_at(document.value, "provider", "type")
    for name, kind in types.items():
        config = mapping_at(kind, "node_config")
        given = _rented(kind)
        machine = machine_of(cloud, given)
        is_spot = text_at(config, "scheduling", "provisioningModel") in ("SPOT", "FLEX_START")
        place: KeyPath = ("available_node_types", name)
        if given in SPOT_ALONE and not is_spot:
            expected = "expected scheduling.provisioningModel: SPOT, or an -8g"
            yield (*place, "node_config", "machineType"), f"Google rents a {given} as spot alone; {expected}"
        for resource, has in (("CPU", machine.cpus), ("GPU", machine.gpus)) if machine else ():
            says = number_at(kind, "resources", resource) or 0
            if says > has:
                sentence = f"a {given} has {has} {resource}s, got {says:g}: trials would share what is not there"
                yield (*place, "resources", resource), sentence
            elif resource == "GPU" and has and not says:
                yield (*place, "resources"), f"a {given} has {has} GPUs, and Ray is not told; expected GPU: {has}"


def unknown_machines(document: Document) -> dict[str, str]:
    """Of AWS and Google Cloud, with the nearest name that is known, in words."""
    cloud = text_at(document.value, "provider", "type")
    given = map(_rented, mapping_at(document.value, "available_node_types").values())
    known = list(MACHINES.get(cloud, {}))
    return {name: did_you_mean(name, known) for name in given if name and known and name not in known}


def _rented(kind: Any) -> str:
    """The cloud's name for the machine of a node type."""
    return text_at(kind, "node_config", "InstanceType") or text_at(kind, "node_config", "machineType")


def fit_faults(document: Document, study: "Study") -> Iterator[Fault]:
    """Trials of the study that the pool could never hold, even at its largest."""
    from trainables.resources import Demand, Node, capacity

    wanted = study.resources
    demand = Demand(wanted.workers, wanted.cpus, wanted.gpus)
    one = Demand(1, wanted.cpus, wanted.gpus)
    for pool in pools(document):
        if capacity(demand, nodes(pool, one)) > 0:
            continue
        place = ("available_node_types",) if document.kind == LAUNCHER else (*pool.keys, "workerGroupSpecs")
        each = f"{wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs"
        if not any(capacity(one, [Node(group.cpus, group.gpus)]) for group in (pool.head, *pool.workers)):
            has = "; ".join(map(_offer, (pool.head, *pool.workers)))
            yield place, f"no trial of '{study.name}' ever fits: a worker takes {each} of one machine, of {has}"
        else:
            room = capacity(one, nodes(pool, one))
            yield (
                place,
                (
                    f"no trial of '{study.name}' ever fits: it takes {wanted.workers} workers of {each}, and there is "
                    f"room for {room} of them at the pool's largest"
                ),
            )


def nodes(pool: Pool, each: "Demand") -> "list[Node]":
    """Every machine at the pool's largest. Kinds share one limit: those that hold most of ``each`` come first."""
    from trainables.resources import Node, capacity

    left, found = pool.most_workers, [Node(pool.head.cpus, pool.head.gpus)]
    kinds = [(Node(group.cpus, group.gpus), group.most) for group in pool.workers]
    for node, most in sorted(kinds, key=lambda kind: capacity(each, [kind[0]]), reverse=True):
        count = int(min(most, left))
        left -= count
        found += [node] * count
    return found


def _offer(group: Group) -> str:
    return f"{group.name} ({group.cpus:g} CPUs, {group.gpus:g} GPUs)"
