"""A name for every shape and every kind of number; a recipe's numbers may be written ``4/255`` or ``1e-5``."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import BeforeValidator, ConfigDict, ValidationInfo
from torch import Tensor

Images = Tensor  # (B, 3, H, W), pixels in [0, 1]
Embeddings = Tensor  # (B, D), projected, not normalised
Logits = Tensor  # (B, C)
Labels = Tensor  # (B,), int64
PerImage = Tensor  # (B,)
LossAt = Callable[[Images], PerImage]  # how bad is it at these pixels?

# What an attacker climbs. ``robust``: the R of the loss that trains; the others need no loss. See losses/climbs.py.
Climb = Literal["robust", "cross_entropy", "dlr", "targeted_dlr", "embedding"]

# Components are their own configuration: an unknown key is an error, a value never changes.
STRICT = ConfigDict(extra="forbid", validate_default=True)


def parse_number(value: Any) -> Any:
    """``"4/255"`` and ``"1e-5"`` as the float they mean; anything that is not a finite number raises ValueError."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    if isinstance(value, str):
        value = _quotient(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    return value


def _quotient(text: str) -> float:
    dividend, slash, divisor = text.partition("/")
    try:
        return float(dividend) / float(divisor) if slash else float(dividend)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a number such as 0.1, 1e-5 or 4/255, got {text!r}") from None


def parse_count(value: Any) -> Any:
    """A whole number, also written ``1e4``; booleans and fractions raise ValueError."""
    number = parse_number(value)
    if isinstance(number, float):
        if not number.is_integer():
            raise ValueError(f"expected a whole number, got {value}")
        return int(number)
    return number


def parse_flag(value: Any) -> Any:
    """``true`` or ``false``, and nothing that only looks like one."""
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def resolve_path(value: Any, info: ValidationInfo) -> Any:
    """A relative path is relative to the study file, whose folder comes as ``context["base"]``."""
    base = (info.context or {}).get("base")
    if not isinstance(value, str) or base is None or "://" in value:
        return value
    return str(base / value)  # an absolute value replaces the base


def resolve_weights(value: Any, info: ValidationInfo) -> Any:
    """As ``resolve_path`` for what is or looks like a file; the tags of a hub stay as they are."""
    base = (info.context or {}).get("base")
    if not isinstance(value, str) or base is None:
        return value
    is_path = "/" in value or value.endswith((".safetensors", ".pt", ".pth", ".bin"))
    return resolve_path(value, info) if is_path else value


Number = Annotated[float, BeforeValidator(parse_number)]
NonNegative = Annotated[Number, Ge(0)]
Positive = Annotated[Number, Gt(0)]
Count = Annotated[int, BeforeValidator(parse_count), Ge(0), Lt(2**63)]
PositiveCount = Annotated[int, BeforeValidator(parse_count), Ge(1), Lt(2**63)]
Flag = Annotated[bool, BeforeValidator(parse_flag)]
DataPath = Annotated[str, BeforeValidator(resolve_path)]
Weights = Annotated[str, BeforeValidator(resolve_weights)]
