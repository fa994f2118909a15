"""The recipe of a study run once, in this process: what `sweep trial` does."""

from collections.abc import Callable
from pathlib import Path

from robustcore.storage import Folder
from sweeps.study import Study
from trainables.resources import Demand
from trainables.trial import run_here


def run_single(study: Study, say: Callable[[str], object] | None) -> dict[str, float]:
    """The final metrics. Raises InputError or NonFiniteLoss."""
    resources = study.resources
    demand = Demand(resources.workers, resources.cpus, resources.gpus)
    storage = Folder(study.storage).local
    cache = (storage or Path.home() / ".cache" / "robust-sweeps") / "original_embeddings"
    metrics: dict[str, float] = {}
    for progress in run_here(study.recipe, demand, cache):
        metrics = progress.metrics
        if say is not None:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if "/" not in name)
            say(f"step {progress.step:>6} of {study.recipe.optim.steps}  {shown}  ({progress.seconds:.1f} s)")
    return metrics
