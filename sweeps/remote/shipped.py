"""Files that came with a job, at one path on every machine and in every life of a sweep, wherever Ray unpacks them.

Recipes name them, and a trial's checkpoints are known by its recipe: so the path holds a digest of the content, and is
a link to where Ray has unpacked the job. Nothing but the standard library: it runs at the start of every worker.
"""

import os
from contextlib import suppress
from pathlib import Path

INPUTS = "inputs"  # folder of a job: one folder for each digest
MARK = "shipped:"  # of a path in an order: what follows is below ``shipped_folder`` of the machine that reads it


def shipped_folder() -> Path:
    """Where the links are."""
    return Path.home() / ".cache" / "robust-sweeps" / "shipped"


def link_inputs(job: Path | None = None) -> None:
    """Let everything that came with the job be found; ``job`` is its folder, by default that of this package."""
    inputs = (job or Path(__file__).parents[2]) / INPUTS
    if not inputs.is_dir():
        return
    shipped_folder().mkdir(parents=True, exist_ok=True)
    for content in inputs.iterdir():
        link = shipped_folder() / content.name
        if not link.is_symlink() or link.readlink() != content:
            fresh = link.with_name(f"{link.name}.{os.getpid()}")
            with suppress(FileExistsError):
                fresh.symlink_to(content, target_is_directory=True)
            fresh.replace(link)


def here(text: str) -> str:
    """A path of an order as this machine has it."""
    return str(shipped_folder() / text.removeprefix(MARK)) if text.startswith(MARK) else text
