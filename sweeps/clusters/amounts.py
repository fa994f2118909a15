"""What Kubernetes calls a quantity: 4, "500m", 16Gi."""

import re
from typing import Any

_AMOUNT = re.compile(r"\+?((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(n|u|m|k|[MGTPE]|[KMGTPE]i)?")
_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3} | {
    letter + ending: base ** (power + 1)
    for power, letter in enumerate("KMGTPE")
    for ending, base in (("", 1e3), ("i", 1024.0))
}


def amount(value: Any) -> float | None:
    """The number that it stands for; None where it stands for none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _AMOUNT.fullmatch(str(value))
    return float(found[1]) * _UNITS.get(found[2], 1.0) if found else None
