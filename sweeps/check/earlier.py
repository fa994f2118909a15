"""Whether there are the studies that ``search.warm_start`` names, and how much of each can advise the sampler."""

from collections.abc import Iterator
from typing import Any

from robustcore.errors import InputError
from robustcore.storage import Folder
from sweeps.earlier import Advice, fitting, folder_of_earlier, read_advice
from sweeps.source import STORAGE, Problem, Source, absolute_storage, default_name, did_you_mean
from sweeps.stored import STUDY, RequestError
from sweeps.study import Study
from sweeps.study.keys import Storage
from sweeps.study.rules import part


def earlier_problems(source: Source) -> Iterator[Problem]:
    """A study without results, with the nearest one that has some; the study itself."""
    written = source.at("search", "warm_start")
    own = source.at("name") or default_name(source.file)
    storage = part(source, Storage, "storage") or absolute_storage(STORAGE)
    for position, name in enumerate(written if isinstance(written, list) else []):
        place = ("search", "warm_start", position)
        if not isinstance(name, str):
            continue
        if name == own:
            yield source.problem(place, f"'{name}' is this study itself, expected another one")
            continue
        try:
            yield from _unreadable(source, place, name, storage)
        except (InputError, OSError) as error:  # no address, or a storage that does not answer
            yield source.problem(place, str(error))


def _unreadable(source: Source, place: Any, name: str, storage: str) -> Iterator[Problem]:
    folder = folder_of_earlier(name, storage)
    if STUDY not in folder.names():
        there = launched_in(storage)
        near = did_you_mean(name, there) or f", expected one of: {', '.join(there) or 'none there yet'}"
        yield source.problem(place, f"no study was launched in {folder.uri}{near}")
        return
    try:
        read_advice(name, storage)
    except RequestError as error:
        yield source.problem(place, str(error))


def launched_in(storage: str) -> list[str]:
    """The studies with results in a local storage; of a remote one nobody lists everything."""
    local = Folder(storage).local
    return sorted(path.parent.name for path in local.glob(f"*/{STUDY}")) if local and local.is_dir() else []


def earlier_trials(study: Study) -> dict[str, dict[str, int]]:
    """By study that advises the sampler: how many trials are ``finished``, and how many of them are ``used``."""
    advice: dict[str, list[Advice]] = {name: read_advice(name, study.storage) for name in study.search.warm_start}
    return {name: {"finished": len(found), "used": len(fitting(study, found))} for name, found in advice.items()}
