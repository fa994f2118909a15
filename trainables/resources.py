"""Workers, GPUs and CPUs of a trial, and how many trials a machine or pool can hold at once."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

HEAD = "node:__internal_head__"  # the resource that a cluster's head alone has


@dataclass(frozen=True)
class Node:
    """What one machine has to give."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Demand:
    """What one trial takes: so many workers, each with so many CPUs and GPUs on one node."""

    workers: int = 1
    cpus: float = 1
    gpus: float = 0


def this_machine() -> Node:
    """The cores this process may use (affinity and container limit), and the GPUs it sees."""
    return Node(float(_cores()), float(torch.cuda.device_count()))


def cluster_nodes(heads: bool = False) -> list[Node]:
    """The nodes of the Ray cluster this process is connected to, or its head alone."""
    import ray

    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"] and (not heads or HEAD in node["Resources"])
    ]


def capacity(demand: Demand, nodes: Sequence[Node]) -> int:
    """How many trials of this demand the nodes can hold at once; 0 where not even one fits."""
    slots = sum(_workers_on(node, demand) for node in nodes)
    return slots // demand.workers


def threads(cpus: float) -> int:
    """Torch threads for that many CPUs: more than the share would be many times slower when trials share a machine."""
    return max(1, math.floor(cpus))


def _workers_on(node: Node, demand: Demand) -> int:
    by_cpu = node.cpus / demand.cpus if demand.cpus else math.inf
    by_gpu = node.gpus / demand.gpus if demand.gpus else math.inf
    fitting = min(by_cpu, by_gpu)
    return math.floor(fitting + 1e-9) if math.isfinite(fitting) else 0


def _cores() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or the quota "max"
        return available
