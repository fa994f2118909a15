"""A recipe rehearsed in this process on what one of its workers has. The next hop is ``robustcore.rehearsal``."""

from dataclasses import replace
from pathlib import Path

import torch

from robustcore.process import Process
from robustcore.recipe import Recipe
from robustcore.rehearsal import Rehearsal, rehearse
from trainables.resources import Demand, threads


def rehearsed(recipe: Recipe, demand: Demand, cache: Path) -> Rehearsal:
    """On one worker's share of the batch and of the images; what workers say to each other is not in it."""
    torch.set_num_threads(threads(demand.cpus))
    device = torch.device("cuda", 0) if demand.gpus else torch.device("cpu")
    share = replace(recipe, data=replace(recipe.data, batch_size=-(-recipe.data.batch_size // demand.workers)))
    found = rehearse(share, Process(device=device, cache=cache))
    return replace(found, evaluation=found.evaluation / demand.workers)
