"""A small sound study in text, for tests that plant a mistake in it."""

from pathlib import Path

SOUND = """\
recipe:
  model: {kind: clip, architecture: tiny-clip-16}
  data:
    train: {kind: digits}
    batch_size: 32
  loss: {kind: fare, alpha: 0}
  attack:
    kind: pgd
    ball: {kind: linf, eps: 4/255}
    steps: 2
  optim: {lr: 1e-3, steps: 20, warmup: 5}
  evaluation:
    every: 10
    prompts: ["a {}."]
    datasets:
      digits: {kind: digits, split: test}
    attacks:
      pgd: {kind: pgd, ball: {kind: linf, eps: 4/255}}
knobs:
  loss.alpha: {uniform: [0, 1]}
objectives: {clean: max, pgd: max}
search: {sampler: random, trials: 4}
stop_early: {after: 10}
resources: {workers: 2}
storage: runs
"""


def written(path: Path, *changes: tuple[str, str]) -> str:
    """The sound study with some of its text replaced, in a file."""
    text = SOUND
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} must stand once in the sound study"
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


def line_of(words: str, text: str) -> int:
    """The line of ``text`` on which ``words`` first stand."""
    return text[: text.index(words)].count("\n") + 1
