"""What a sampler remembers of a long sweep: the newest trials and the best; so its late answers come as fast.

A model of ten thousand trials would take half a second to make for each question, and know little more.
"""

from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

NEWEST = 400  # that are over


class Memory(InMemoryStorage):
    """Optuna's storage of one study. Which trials it shows depends on what was told alone, not on when."""

    def __init__(self) -> None:
        super().__init__()
        self._best: dict[int, tuple[float, ...]] = {}

    def note(self, number: int, losses: Sequence[float]) -> None:
        """A feasible trial ended with these values, all to be minimised; the best of them are not forgotten."""
        new = tuple(losses)
        if not any(_is_no_worse(each, new) for each in self._best.values()):
            self._best = {n: each for n, each in self._best.items() if not _is_no_worse(new, each)} | {number: new}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those that are remembered, in the order of their numbers."""
        if states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy=False)
        start, left = len(trials), NEWEST
        while start and left:
            start -= 1
            left -= trials[start].state.is_finished()
        shown = [trials[number] for number in sorted(self._best) if number < start] + trials[start:]
        return [trial for trial in shown if states is None or trial.state in states]


def _is_no_worse(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(mine <= its for mine, its in zip(one, other, strict=True))
