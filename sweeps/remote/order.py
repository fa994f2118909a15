"""What a job is to do, as JSON that travels with it: a verb of `sweep`, its study and its options."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sweeps.remote.cargo import ORDER
from sweeps.remote.inputs import Input
from sweeps.remote.shipped import here
from sweeps.source.marked import KeyPath
from sweeps.study import Study

STOP_WAIT = 600  # seconds for which a sweep may end by itself, before Ray kills it: storage is waited for, too


@dataclass(frozen=True)
class Order:
    """``study`` is as ``Study.as_json`` has it, its paths as they are sent; None where the storage knows it.

    ``path`` and ``said`` are the user's own words for the study and the cluster; ``wanted`` is (attack, samples) of
    --certify, or None.
    """

    verb: Literal["launch", "resume", "certify"]
    name: str
    path: str
    said: tuple[str, ...]
    storage: str
    study: dict[str, Any] | None = None
    settings: tuple[str, ...] = ()
    trials: int | None = None
    wanted: tuple[str | None, int | None] | None = None
    force: bool = False

    def as_json(self) -> dict[str, Any]:
        """What ``read_order`` reads back."""
        return asdict(self)


def read_order(job: Path) -> Order:
    """The order in a job's folder, with paths as this machine has them."""
    plain = json.loads((job / ORDER).read_text())
    wanted = tuple(plain["wanted"]) if plain["wanted"] is not None else None
    study = _everywhere(plain["study"], here) if plain["study"] is not None else None
    words = {name: tuple(plain[name]) for name in ("said", "settings")}
    return Order(**{**plain, **words, "study": study, "wanted": wanted})


def sent_study(study: Study, inputs: dict[Path, Input], folder: Path) -> dict[str, Any]:
    """The study as an order has it: what is sent with it is named by where it will be."""
    from sweeps.places import local_path, moved

    def sent(keys: KeyPath, text: str) -> str:
        path = local_path(text, keys, folder)
        return inputs[path].sent if path in inputs else text

    return {**study.as_json(), "study": moved(study.plain, sent)}


def _everywhere(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _everywhere(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_everywhere(entry, change) for entry in value]
    return change(value) if isinstance(value, str) else value
