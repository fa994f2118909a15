"""A trained encoder in the layouts of other libraries, which give the same embeddings; weights are safetensors."""

import shutil
from collections.abc import Callable
from os import getpid
from pathlib import Path
from typing import Literal, get_args

from robustcore.errors import InputError
from robustcore.export import hf, onnx, open_clip, timm
from robustcore.export.merge import plain_model
from robustcore.models import Loaded

__all__ = ["FORMATS", "Format", "check_free", "export", "plain_model", "usage"]

Format = Literal["open_clip", "hf", "timm", "onnx"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS: dict[Format, Callable[[Loaded, Path], None]] = {
    "open_clip": open_clip.write,
    "hf": hf.write,
    "timm": timm.write,
    "onnx": onnx.write,
}
_USAGES: dict[Format, str] = {
    "open_clip": open_clip.USAGE,
    "hf": hf.USAGE,
    "timm": timm.USAGE,
    "onnx": onnx.USAGE,
}


def export(loaded: Loaded, to: Format, folder: Path, complete: Callable[[Path], None]) -> None:
    """Write ``loaded``, which has no LoRA beside its weights any more, as ``folder``: whole or not at all.

    ``complete`` adds what else belongs into the folder. Raises InputError where the folder is there and not empty, and
    ModelError where the format cannot express the architecture.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f".{folder.name}.{getpid()}.unfinished"
    unfinished.mkdir()
    try:
        _WRITERS[to](loaded, unfinished)
        complete(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def usage(loaded: Loaded, to: Format, folder: str) -> str:
    """Three lines of Python that load ``folder`` and embed ``image``, a picture of Pillow's."""
    return _USAGES[to].format(folder=folder, size=loaded.preprocessing.size)


def check_free(folder: Path) -> None:
    """InputError unless ``folder`` is absent or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is there already, expected a new or an empty folder", "out")
