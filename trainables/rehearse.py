"""A recipe rehearsed in this process on what one of its workers has. The next hop is ``robustcore.rehearsal``.

Trials that run side by side share caches and memory, and are slower than one alone: so a rehearsal has company, other
processes that do the same until it is over.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch

from robustcore.process import Process
from robustcore.recipe import Recipe, recipe_from
from robustcore.rehearsal import Rehearsal, keep_busy, rehearse
from trainables.memory import enough_memory
from trainables.resources import Demand, threads

_COMPANION = "from trainables.rehearse import accompany; accompany()"


def rehearsed(recipe: Recipe, demand: Demand, cache: Path, beside: int = 0) -> Rehearsal:
    """On one worker's share of the batch and of the images, ``beside`` so many others.

    What workers of one trial say to each other is not in it.
    """
    share = replace(recipe, data=replace(recipe.data, batch_size=-(-recipe.data.batch_size // demand.workers)))
    with enough_memory():
        found = rehearse(share, _process(demand, cache), _company(share, demand, cache, beside))
    return replace(found, evaluation=found.evaluation / demand.workers)


def _process(demand: Demand, cache: Path) -> Process:
    torch.set_num_threads(threads(demand.cpus))
    return Process(device=torch.device("cuda", 0) if demand.gpus else torch.device("cpu"), cache=cache)


@contextmanager
def _company(recipe: Recipe, demand: Demand, cache: Path, count: int) -> Iterator[None]:
    """So many processes at the same work; who fails to start is missed in silence, for the rehearsal will say why."""
    told = json.dumps([recipe.as_json(), asdict(demand), str(cache)])
    command, others = [sys.executable, "-c", _COMPANION], list[subprocess.Popen[str]]()
    try:
        for _ in range(count):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            others.append(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]  # noqa: S603
        for other in others:
            other.stdin.write(told + "\n")  # type: ignore[union-attr]
            other.stdin.flush()  # type: ignore[union-attr]
        for other in others:
            other.stdout.readline()  # type: ignore[union-attr]
        yield
    finally:
        for other in others:
            other.kill()
            other.communicate()


def accompany() -> None:
    """What a companion runs; it is killed when it has done its part, and ends itself where nobody is left to do so."""
    recipe, demand, cache = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    keep_busy(recipe_from(recipe), _process(Demand(**demand), Path(cache)), _say_ready)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
