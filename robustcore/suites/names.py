"""CLIP's class names for a stored copy of a set: matched name by name, so that no label is read as another class."""

import re
from collections.abc import Sequence

from robustcore.errors import DataError
from robustcore.suites import SetInfo

# A copy's own names differ from CLIP's in a few words, as years went by; a copy of another set differs in most.
_ENOUGH = 0.5


def clip_names(info: SetInfo, stored: Sequence[str], where: str) -> tuple[str, ...]:
    """CLIP's names in the order of ``stored``, the copy's own. Raises DataError where they are not the same classes."""
    counts = (len(info.classes) - len(info.optional), len(info.classes))
    if len(stored) not in counts:
        expected = " or ".join(str(count) for count in dict.fromkeys(counts))
        raise DataError(f"{info.id}: {where} has {len(stored)} classes, expected {expected}", "sets")
    places = _places(info)
    known = [places.get(_plain(name), set()) for name in stored]
    if all(known):
        return _in_their_order(info, stored, known, where)
    own = range(len(info.classes)) if len(stored) == counts[1] else _without_optional(info)
    matched = [own[position] in found for position, found in enumerate(known) if found]
    if matched and all(matched) and len(matched) >= _ENOUGH * len(stored):
        return tuple(info.classes[place] for place in own)  # the same order, a few words apart
    wrong = next(position for position, found in enumerate(known) if own[position] not in found)
    raise DataError(
        f"{info.id}: the classes of {where} are others: class {wrong} is '{stored[wrong]}', expected "
        f"'{info.classes[own[wrong]]}'",
        "sets",
    )


def _in_their_order(info: SetInfo, stored: Sequence[str], known: list[set[int]], where: str) -> tuple[str, ...]:
    """Of several classes of one name (ImageNet has two 'missile's), the one at its own place, or else the next."""
    left = set(range(len(info.classes)))
    chosen = []
    for position, found in enumerate(known):
        free = sorted(found & left, key=lambda place: (place != position, place))
        if not free:
            raise DataError(f"{info.id}: {where} has the class '{stored[position]}' twice", "sets")
        left.discard(free[0])
        chosen.append(free[0])
    return tuple(info.classes[place] for place in chosen)


def _without_optional(info: SetInfo) -> list[int]:
    return [place for place, name in enumerate(info.classes) if name not in info.optional]


def _places(info: SetInfo) -> dict[str, set[int]]:
    """Where each name, CLIP's or another, may stand."""
    places: dict[str, set[int]] = {}
    for place, names in enumerate(zip(info.classes, info.aliases, strict=True)):
        for name in (names[0], *names[1]):
            places.setdefault(_plain(name), set()).add(place)
    return places


def _plain(name: str) -> str:
    """``aquarium_fish``, ``Aquarium fish`` and ``/a/aquarium/fish`` are one name."""
    words = re.sub(r"^/\w/", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "", words)
