"""The training loop: attack the batch, descend on what was found. A generator: it does not log, save or report.

The next hop is ``robustcore.descent``, which makes one step of it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robustcore.descent import Descent
from robustcore.evaluation import WATCH, Outcome, Suite
from robustcore.precision import PRECISIONS
from robustcore.prepared import prepare
from robustcore.process import Process
from robustcore.recipe import Recipe

_LOSSES = "losses/mean"
_OVERFITTING = WATCH[0]
_RESISTS_ONE_STEP = "the encoder learnt to resist the single step of its training, and hardly more"


@dataclass(frozen=True)
class State:
    """What a run needs to go on at ``step`` as if it had never stopped. Nothing random is in it: see ``Noise``."""

    step: int
    weights: dict[str, Tensor]  # what differs from the original ones: with LoRA, the adapter alone
    optimizer: dict[str, Tensor] = field(default_factory=dict)  # and whatever else is on its way between two steps


@dataclass(frozen=True)
class Progress:
    """An evaluation, and the state at it. ``final`` says that there is nothing more to do.

    Without metrics, it is a state between two evaluations, for whoever wanted one.
    """

    step: int
    metrics: dict[str, float]
    final: bool
    seconds: float  # of work in this process since the loop began
    state: Callable[[], State]
    samples: dict[str, int]  # the number of images of each data set that was measured
    flags: dict[str, str]  # why a number may not hold: see ``Outcome``


def finetune(
    recipe: Recipe,
    process: Process | None = None,
    resume: State | None = None,
    is_wanted: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Fine-tune the recipe's encoder; yield at every ``evaluation.every`` steps and at the end.

    ``is_wanted`` is asked after every other step whether to yield there too, without an evaluation; every process of
    a distributed run must give the same answer.

    Every process of a distributed run iterates its own copy in step with the others and sees the same metrics.
    Raises InputError where model or data are not as described, NonFiniteLoss where training diverges.
    """
    process, started = process or Process(), time.perf_counter()
    run, first = Run(recipe, process, resume.weights if resume is not None else None), 0
    losses = _Mean()
    if resume is not None:
        optimizer = dict(resume.optimizer)
        losses.restore(optimizer.pop(_LOSSES, None))
        run.descent.restore(resume.weights, optimizer)
        first = resume.step

    def progress(step: int, outcome: Outcome, trained: dict[str, float]) -> Progress:
        counted = run.descent.counted()  # by all processes together, so here: only one of them asks for the state
        final, seconds = step == recipe.optim.steps, time.perf_counter() - started

        def state() -> State:
            # The last state has no more use for the optimizer.
            moving = run.descent.optimizer() | counted | losses.tensors()
            return State(step, _copied(run.descent.weights()), {} if final else _copied(moving))

        return Progress(step, outcome.metrics | trained, final, seconds, state, outcome.samples, outcome.flags)

    total = recipe.optim.steps
    for step, loss in run.descent.steps(range(first, total)):
        losses.add(loss)
        done = step + 1
        if done % recipe.evaluation.every == 0 or done == total:
            run.descent.check_weights(done)
            yield progress(done, run.measured(), run.descent.stalls() | {"loss": losses.take()})
        elif is_wanted():
            yield progress(done, Outcome({}), {})
    if total == 0:
        yield progress(0, run.measured(), {})


class Run:
    """A recipe with all that it needs before the first step; ``weights`` are those of a run that goes on."""

    def __init__(self, recipe: Recipe, process: Process, weights: dict[str, Tensor] | None = None) -> None:
        self._recipe, self._process = recipe, process
        self.known = prepare(recipe, process, weights)
        self.descent = Descent(recipe, process, self.known)
        self._suite = Suite(
            recipe.evaluation,
            self.known.classifier_of,
            self.known.pixels.preprocessing,
            recipe.seed,
            PRECISIONS[recipe.precision],
            recipe.trains_text,
            self.known.anchors_of,
        )

    def measured(self) -> Outcome:
        """One evaluation of the encoder as it is now."""
        recipe, encoder, facts = self._recipe, self.known.trainee.encoder, self.known.facts
        outcome = self._suite(encoder, self._process)
        if not recipe.is_single_step:
            return replace(outcome, metrics=outcome.metrics | facts)
        watched = self._suite.watch(recipe.attack, encoder, self._process)
        flags = {_OVERFITTING: _RESISTS_ONE_STEP} if watched[_OVERFITTING] else {}
        return replace(outcome, metrics=outcome.metrics | watched | facts, flags=outcome.flags | flags)


class _Mean:
    """The mean since it was last taken."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self._sum, self._count = self._sum + value, self._count + 1

    def take(self) -> float:
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        return mean

    def tensors(self) -> dict[str, Tensor]:
        """What ``restore`` takes; empty after ``take``."""
        values = torch.tensor([self._sum, self._count], dtype=torch.float64)
        return {_LOSSES: values} if self._count else {}

    def restore(self, values: Tensor | None) -> None:
        if values is not None:
            self._sum, self._count = values[0].item(), int(values[1])


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
