"""A trial of a sweep run again in this process, as it was, and its numbers held against those of the results."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.finished import known_trial
from sweeps.results import TrialRecord
from sweeps.stored import RequestError, embeddings_cache, launched_study
from sweeps.study import Resources
from trainables.resources import Demand, this_machine
from trainables.trial import run_here


@dataclass
class Comparison:
    """By metric that is not bit for bit the same: the largest difference, at which step, what it was and what it is."""

    trial: str
    evaluations: int = 0
    numbers: int = 0
    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what is not as it was, and may explain them

    @property
    def agrees(self) -> bool:
        """Bit for bit, in every number of every evaluation."""
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"agrees": self.agrees, **vars(self)}

    def verdict(self) -> str:
        """One sentence, and a line for each metric that differs."""
        what = f"{self.numbers} numbers of {self.evaluations} evaluations"
        if self.agrees:
            return f"trial {self.trial} agrees: all {what} are bit for bit the same"
        lines = [
            f"  {name}: {each['is']:.6g} at step {each['step']:.0f}, was {each['was']:.6g} "
            f"(difference {each['difference']:.3g})"
            for name, each in self.differences.items()
        ]
        return "\n".join([f"trial {self.trial} differs in {len(lines)} metrics (of {what}):", *lines])


def rerun(folder: Folder, trial: str, say: Callable[[str], object] | None) -> Comparison:
    """Run it with the study's own threads and device. Raises RequestError, InputError or NonFiniteLoss."""
    study, record = launched_study(folder), known_trial(folder, trial)
    if not record.evaluations or record.state not in ("finished", "stopped"):
        why = f" ({record.reason})" if record.reason else ""
        raise RequestError(f"trial {record.trial} is {record.state}{why}, expected a finished or a stopped one")
    here = _here(study.resources)
    found = Comparison(record.trial, notes=_notes(record, study.resources, here))
    known = {evaluation.step: evaluation.metrics for evaluation in record.evaluations}
    for progress in run_here(recipe_from(record.recipe), here, embeddings_cache(study.storage)):
        _compare(found, progress.step, known.get(progress.step, {}), progress.metrics)
        if say is not None:
            worst = max((each["difference"] for each in found.differences.values()), default=0.0)
            same = "the same so far" if found.agrees else f"largest difference so far {worst:.3g}"
            say(f"step {progress.step:>6} of {record.step}  {same}  ({progress.seconds:.1f} s)")
        if progress.step >= record.step:
            break
    return found


def _here(resources: Resources) -> Demand:
    gpus = resources.gpus if this_machine().gpus else 0
    return Demand(resources.workers, resources.cpus, gpus)


def _notes(record: TrialRecord, resources: Resources, here: Demand) -> list[str]:
    notes = []
    for package, then in record.versions.items():
        now = _version(package)
        if now != then:
            notes.append(f"{package} is {now}, was {then}")
    device = "cuda" if here.gpus else "cpu"
    if record.device and not record.device.startswith(device):
        notes.append(f"the device is {device}, was {record.device}")
    if resources.workers > 1:
        notes.append(f"it ran on {resources.workers} workers and runs in one process here: sums are rounded otherwise")
    if this_machine().cpus < here.cpus * here.workers:
        notes.append(f"this machine has {this_machine().cpus:g} CPUs, fewer than the trial had")
    return notes


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _compare(found: Comparison, step: int, was: dict[str, float], now: dict[str, float]) -> None:
    found.evaluations += 1
    found.numbers += len(was)
    for name in dict.fromkeys([*was, *now]):
        old, new = was.get(name, math.nan), now.get(name, math.nan)
        if old == new or (math.isnan(old) and math.isnan(new)):
            continue
        size = abs(new - old) if math.isfinite(new - old) else math.inf
        if name not in found.differences or size > found.differences[name]["difference"]:
            found.differences[name] = {"difference": size, "step": step, "was": old, "is": new}
