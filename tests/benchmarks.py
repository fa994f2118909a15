"""What a sweep costs beyond its trials' own work, beside plain Ray Tune, and how fast the inner loop is.

`make benchmarks` runs it. Ratios are to be compared, not seconds: both sides of each run here, in one go, on
whatever machine this is.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from robustcore.attacks import PGD
from robustcore.finetune import finetune
from robustcore.models import Clip
from robustcore.process import Process
from robustcore.recipe import recipe_from
from sweeps.results import Results
from sweeps.study import load_study
from tests.benchmark_autoattack import autoattack_table
from tests.sweeps.commands import COMMAND, STUDY, write_study

TRIALS = 7  # the first one of each sweep starts its actor and is not counted
TINY = STUDY.replace("{choice: [0, 1]}", "{uniform: [0, 1]}").replace(
    "{sampler: grid, trials: 2}", f"{{sampler: random, trials: {TRIALS}}}"
)
BATCH, STEPS, ROUNDS = 64, 20, 5
Ends = list[tuple[float, float]]  # of each trial: when it ended, and the seconds of its own work


def main() -> None:
    """Run everything and print one table."""
    table = Table("measured", "ours", "beside", "ratio", title="Benchmarks: 1 thread, digits")
    with tempfile.TemporaryDirectory(prefix="sweep-benchmarks-") as scratch:
        folder = Path(scratch)
        ours = our_sweep(folder)
        for reuse in (False, True):
            plain = plain_tune(folder, reuse)
            row = f"seconds a trial takes beyond its own work; plain Ray Tune, reuse_actors={reuse}"
            table.add_row(row, *_compared(overhead(ours), overhead(plain), digits=2))
            table.add_row("  seconds of that work", *_compared(own_work(ours), own_work(plain), digits=2))
    torch.set_num_threads(1)
    speed, bare, share = inner_loop()
    row = f"images/s of PGD-3 training at batch {BATCH}, eager; the same passes by hand"
    table.add_row(row, *_compared(speed, bare, digits=0))
    table.add_row("share of that time in the attack; 4 of its 5 forward passes", f"{share:.2f}", "", "")
    Console(width=130).print(table)
    Console(width=130).print(autoattack_table())


def _compared(ours: float, beside: float, digits: int) -> tuple[str, str, str]:
    return f"{ours:.{digits}f}", f"{beside:.{digits}f}", f"{ours / beside:.2f}"


def overhead(ends: Ends) -> float:
    """Median seconds from one trial's end to the next one's that the latter did not spend on its own work."""
    return statistics.median(end - before - own for (before, _), (end, own) in pairwise(ends))


def own_work(ends: Ends) -> float:
    """Median seconds that a trial itself says it took, the first one left out."""
    return statistics.median(own for _, own in ends[1:])


def our_sweep(folder: Path) -> Ends:
    """`sweep launch` as users run it, one trial at a time; its lines say when each trial ends."""
    study, ended = write_study(folder, TINY), {}
    arguments = ["launch", str(study), "--storage", str(folder / "runs"), "--set", "resources.at_once=1"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        for line in command.stdout:
            words = line.split()
            if words[:1] == ["trial"] and words[2] == "finished:":
                ended[words[1]] = time.time()
    records = Results.read(str(folder / "runs" / "tiny" / "results.parquet")).records
    assert len(ended) == TRIALS, "every trial finishes"
    return [(ended[trial], record.seconds) for trial, record in records.items()]


def plain_tune(folder: Path, reuse: bool) -> Ends:
    """The same fine-tuning as a function under Ray Tune, on the same Ray with the same settings."""
    from sweeps.session import ray_session

    study = load_study(str(folder / "tiny.yaml"))
    recipes = [study.recipe_at({"loss.alpha": number / TRIALS}) for number in range(TRIALS)]
    with ray_session("local"):
        from ray import tune

        class Clock(tune.Callback):  # type: ignore[misc]  # Ray's types are Any here
            """Remembers when each trial ended."""

            ends: Ends = []  # noqa: RUF012  # there is one, and Tune may copy it

            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                self.ends.append((time.time(), trial.last_result["seconds"]))

        tune.Tuner(
            tune.with_resources(_function(str(folder / "cache")), {"CPU": 1}),
            param_space={"recipe": tune.grid_search(recipes)},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=str(folder / f"tune-{reuse}"), callbacks=[Clock()], verbose=0),
        ).fit()
    assert len(Clock.ends) == TRIALS, "every trial finishes"
    return Clock.ends


def _function(cache: str) -> Callable[[dict[str, Any]], None]:
    def function(config: dict[str, Any]) -> None:
        from ray import tune

        torch.set_num_threads(1)
        for progress in finetune(recipe_from(config["recipe"]), Process(cache=Path(cache))):
            tune.report({**progress.metrics, "step": progress.step, "seconds": progress.seconds})

    return function


def inner_loop() -> tuple[float, float, float]:
    """Images/s of our loop and of the loop by hand, medians of rounds taken in turns; the attack's share of ours."""
    attacking, steps, by_hand = _Stopwatch(), our_steps(), steps_by_hand()
    attack = PGD.__call__
    PGD.__call__ = attacking.around(attack)  # type: ignore[method-assign]  # put back below
    try:
        next(steps), next(by_hand)  # warm
        attacking.seconds = 0.0
        rounds = [(_seconds(steps), _seconds(by_hand)) for _ in range(ROUNDS)]
    finally:
        PGD.__call__ = attack  # type: ignore[method-assign]
    ours, bare = zip(*rounds, strict=True)
    images = BATCH * STEPS
    return images / statistics.median(ours), images / statistics.median(bare), attacking.seconds / sum(ours)


class _Stopwatch:
    seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - started
            return result

        return timed


def _seconds(rounds: Iterator[object]) -> float:
    started = time.perf_counter()
    next(rounds)
    return time.perf_counter() - started


def our_steps() -> Iterator[object]:
    """Rounds of ``STEPS`` steps of `finetune`, each with one clean pass over 400 test digits: a hundredth of it."""
    recipe = {
        "model": {"kind": "clip", "weights": "digits"},
        "data": {"train": {"kind": "digits"}, "batch_size": BATCH},
        "loss": {"kind": "fare", "alpha": 0},
        "attack": {"kind": "pgd", "ball": {"kind": "linf", "eps": 16 / 255}, "steps": 3},
        "optim": {"lr": 1e-4, "steps": STEPS * (ROUNDS + 1)},
        "evaluation": {"every": STEPS, "datasets": {"digits": {"kind": "digits", "split": "test"}}, "attacks": {}},
    }
    return finetune(recipe_from(recipe))


def steps_by_hand() -> Iterator[object]:
    """The same passes with nothing around them, on one batch of noise."""
    encoder = Clip(weights="digits").load().encoder.requires_grad_(True)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
    images, eps = torch.rand(BATCH, 3, 16, 16), 16 / 255
    with torch.no_grad():
        original = encoder(images)
    while True:
        for _ in range(STEPS):
            encoder.requires_grad_(False)
            perturbed = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
            for _ in range(3):
                perturbed.requires_grad_(True)
                (slope,) = torch.autograd.grad((encoder(perturbed) - original).square().sum(), perturbed)
                moved = perturbed.detach() + eps / 4 * slope.sign()
                perturbed = moved.clamp(images - eps, images + eps).clamp(0, 1)
            with torch.no_grad():
                encoder(perturbed)
            encoder.requires_grad_(True)
            optimizer.zero_grad()
            (encoder(perturbed) - original).square().sum(dim=1).mean().backward()
            optimizer.step()
        yield None


if __name__ == "__main__":
    main()
