"""Every machine of the cluster is asked at once, within a time limit: one that does not answer is a finding, too."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustcore.storage import Folder, reason
from sweeps.places import local_places, remote_places
from sweeps.preflight.probe import Look, Probe
from sweeps.stored import RequestError
from sweeps.study import Study
from trainables.resources import HEAD

PATIENCE = 120.0  # seconds: a machine that has just come up unpacks the job first
_MARK = ".preflight-"


@dataclass(frozen=True)
class Node:
    """A machine, and what came of asking it: a look and how far its clock is ahead (seconds), or why there is none."""

    name: str
    is_head: bool
    id: str = ""
    look: Look | None = None
    ahead: float = 0.0
    error: str = ""
    is_heard: bool = True  # what it wrote into storage was found there

    def __str__(self) -> str:
        return f"{'the head' if self.is_head else 'the worker'} {self.name}"


def alive_nodes() -> list[Node]:
    """All that are up, the head first."""
    import ray

    alive = (each for each in ray.nodes() if each["Alive"])
    nodes = (Node(each["NodeManagerAddress"], HEAD in each["Resources"], each["NodeID"]) for each in alive)
    return sorted(nodes, key=lambda node: not node.is_head)


def ask_nodes(folder: Folder, study: Study, patience: float) -> list[Node]:
    """Those with what came of asking them. Raises RequestError where this process cannot write to the folder."""
    import ray

    nodes, places = alive_nodes(), _places(study)
    with _question(folder) as question:
        probes = {node: _pinned(node) for node in nodes}
        answers = {
            node: probe.look.remote(folder.uri, question, f"{question}-{node.id}", places)
            for node, probe in probes.items()
        }
        ready, _ = ray.wait(list(answers.values()), num_returns=len(answers), timeout=patience)
        silent = f"it did not answer within {patience:g} s"
        found = [
            _asked(node, probes[node], answers[node]) if answers[node] in set(ready) else replace(node, error=silent)
            for node in nodes
        ]
        found = [_heard(node, folder, question) for node in found]
    for probe in probes.values():
        ray.kill(probe)
    return found


def _pinned(node: Node) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor = ray.remote(num_cpus=0, max_restarts=0)(Probe)
    return actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote()


def _asked(node: Node, probe: Any, answer: Any) -> Node:
    import ray

    try:
        return replace(node, look=ray.get(answer), ahead=_ahead(probe))
    except ray.exceptions.RayError as error:
        return replace(node, error=f"it cannot run our code: {' '.join(str(error).split())[-300:]}")


def _ahead(probe: Any) -> float:
    """The quickest of three answers says it best."""
    import ray

    found: list[tuple[float, float]] = []
    for _ in range(3):
        before = time.time()
        there = ray.get(probe.clock.remote(), timeout=10)
        after = time.time()
        found.append((after - before, there - (before + after) / 2))
    return min(found)[1]


def _heard(node: Node, folder: Folder, question: str) -> Node:
    if node.look is None or node.look.storage:
        return node
    name = f"{question}-{node.id}"
    try:
        return replace(node, is_heard=folder.read(name) == question.encode())
    except OSError:
        return replace(node, is_heard=False)
    finally:
        with suppress(OSError):
            folder.remove(name)


@contextmanager
def _question(folder: Folder) -> Iterator[str]:
    """A file of this process in the study's folder, for a while."""
    name = f"{_MARK}{uuid.uuid4().hex[:12]}"
    try:
        folder.write(name, name.encode())
    except OSError as error:
        raise RequestError(f"storage: the head cannot write to {folder.uri} ({reason(error)})") from None
    try:
        yield name
    finally:
        with suppress(OSError):
            folder.remove(name)


def _places(study: Study) -> list[str]:
    plain = study.plain
    local = local_places({"recipe": plain["recipe"], "knobs": plain["knobs"]}, Path("/"))
    return sorted({*map(str, local.values()), *remote_places(plain).values()})
