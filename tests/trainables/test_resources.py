"""How many trials fit on the machines, against placing them worker by worker; and threads for a share of CPUs."""

from fractions import Fraction

import pytest

from trainables.resources import Demand, Node, capacity, this_machine, threads

LAPTOP, GPU_BOX, BIG = Node(2, 0), Node(16, 4), Node(64, 8)


@pytest.mark.parametrize(
    ("demand", "nodes", "fits"),
    [
        (Demand(), [LAPTOP], 2),
        (Demand(cpus=2), [LAPTOP], 1),
        (Demand(cpus=3), [LAPTOP], 0),
        (Demand(cpus=0.5), [LAPTOP], 4),
        (Demand(cpus=0.1), [Node(1, 0)], 10),
        (Demand(cpus=0.1), [Node(0.3, 0)], 3),
        (Demand(gpus=1), [LAPTOP], 0),
        (Demand(gpus=0.5, cpus=4), [GPU_BOX], 4),
        (Demand(gpus=0.5, cpus=1), [GPU_BOX], 8),
        (Demand(gpus=1, cpus=0), [GPU_BOX], 4),
        (Demand(workers=2), [LAPTOP], 1),
        (Demand(workers=4), [LAPTOP], 0),
        (Demand(workers=4), [LAPTOP, LAPTOP], 1),
        (Demand(workers=3, cpus=2), [LAPTOP, Node(3, 0), Node(5, 0)], 1),
        (Demand(workers=2, gpus=4), [GPU_BOX, BIG], 1),
        (Demand(cpus=4), [Node(3, 0), Node(3, 0)], 0),
        (Demand(), [], 0),
    ],
)
def test_as_many_trials_fit_as_their_workers_can_be_placed(demand: Demand, nodes: list[Node], fits: int) -> None:
    assert capacity(demand, nodes) == fits


def placed(demand: Demand, nodes: list[Node]) -> int:
    """Trials placed one worker after another, each on the first node that has room; exact fractions."""
    wants = [Fraction(str(demand.cpus)), Fraction(str(demand.gpus))]
    left = [[Fraction(str(node.cpus)), Fraction(str(node.gpus))] for node in nodes]
    workers = 0
    while room := next((free for free in left if all(map(Fraction.__ge__, free, wants))), None):
        room[:] = [has - want for has, want in zip(room, wants, strict=True)]
        workers += 1
    return workers // demand.workers


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("cpus", [0.1, 0.3, 0.7, 1, 2.5])
@pytest.mark.parametrize("gpus", [0, 0.1, 0.25, 1, 2])
def test_the_count_is_that_of_placing_them_one_by_one(workers: int, cpus: float, gpus: float) -> None:
    demand, nodes = Demand(workers, cpus, gpus), [LAPTOP, Node(3, 1), Node(16, 4)]
    assert capacity(demand, nodes) == placed(demand, nodes)


@pytest.mark.parametrize(("cpus", "expected"), [(0.1, 1), (0.5, 1), (1, 1), (1.9, 1), (2, 2), (7.5, 7)])
def test_torch_gets_no_more_threads_than_its_share_of_cpus(cpus: float, expected: int) -> None:
    assert threads(cpus) == expected


def test_this_machine_has_a_core_at_least() -> None:
    machine = this_machine()
    assert machine.cpus >= 1
    assert machine.gpus >= 0
    assert capacity(Demand(), [machine]) == machine.cpus
