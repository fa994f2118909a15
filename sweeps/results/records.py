"""What is known about one trial; only the driver of the sweep writes a record, everyone else reads."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Value = float | int | str | bool | None
State = Literal["pending", "running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Evaluation:
    """The metrics at ``step``; ``seconds`` counts from the trial's start, over all its restarts."""

    step: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Certificate:
    """What is left of a trial's objectives under a stronger attack.

    ``metrics`` are named as the searched ones (``pgd``, ``pgd/digits``), so that both stand side by side;
    ``attacks`` say what was in truth run in the place of each attack, as a recipe would write it.
    """

    metrics: dict[str, float]
    attacks: dict[str, dict[str, Any]]
    samples: dict[str, int]  # images of each data set
    flags: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class TrialRecord:
    """One trial: what was asked of it, what it answered, and where.

    ``trial`` is our own id in the order of suggestion (``"0007"``; ``"0007.1"`` is its first repeat), ``started`` is
    in Unix seconds,
    ``reason`` is one sentence for a failed, stopped or copied trial, ``copy_of`` names the trial whose result a
    duplicate took, and ``repeat_of`` the trial whose recipe this one runs with another seed.
    """

    trial: str
    knobs: dict[str, Value]
    recipe: dict[str, Any]
    recipe_hash: str
    seed: int
    state: State = "pending"
    reason: str = ""
    copy_of: str = ""
    repeat_of: str = ""
    evaluations: list[Evaluation] = field(default_factory=list)
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)  # images of each data set that was measured
    flags: dict[str, str] = field(default_factory=dict)  # of the last evaluation: why a number may not hold
    certificate: Certificate | None = None
    notes: list[str] = field(default_factory=list)  # what happened to it that did not change its numbers

    @property
    def step(self) -> int:
        """Of the last evaluation; 0 before the first."""
        return self.evaluations[-1].step if self.evaluations else 0

    @property
    def metrics(self) -> dict[str, float]:
        """Of the last evaluation; accuracies are shares in [0, 1]. Empty before the first."""
        return self.evaluations[-1].metrics if self.evaluations else {}

    @property
    def seconds(self) -> float:
        """Spent up to the last evaluation."""
        return self.evaluations[-1].seconds if self.evaluations else 0.0

    def record(self, evaluation: Evaluation) -> bool:
        """Append unless that step or a later one is there; returns whether it was new.

        A trial that continues from a checkpoint reports again what it had reported after that checkpoint.
        """
        if self.evaluations and evaluation.step <= self.step:
            return False
        self.evaluations.append(evaluation)
        return True

    def as_json(self) -> dict[str, Any]:
        """The public form; a NaN or infinite number becomes None, which every JSON reader understands."""
        public: dict[str, Any] = {
            "trial": self.trial,
            "state": self.state,
            "knobs": {path: _strict(value) for path, value in self.knobs.items()},
            "metrics": {name: _strict(value) for name, value in self.metrics.items()},
            "step": self.step,
        }
        if self.reason:
            public["reason"] = self.reason
        for name in ("copy_of", "repeat_of", "samples", "flags", "notes"):
            if value := getattr(self, name):
                public[name] = value
        if self.certificate is not None:
            public["certificate"] = asdict(self.certificate)
        return public


def _strict(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
