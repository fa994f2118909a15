"""What is compared: a sampler, with or without a rule that stops trials, in the words of a study.

``tpe`` trains every trial to its end, ``tpe+moasha`` stops early as ``stop_early`` does unless told otherwise, and
``tpe+{keep: 1/3}`` as it does when told that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from robustcore.errors import InputError
from sweeps.source import did_you_mean
from sweeps.study import Search, StopEarly

SAMPLERS = [name for name in get_args(Search.__annotations__["sampler"]) if name != "grid"]
STANDARD = (
    *(f"{sampler}{rule}" for sampler in ("random", "tpe", "nsga2", "gp") for rule in ("", "+moasha")),
    *("tpe+forecast", "gp+forecast"),
)


@dataclass(frozen=True)
class Policy:
    """``stopping`` are the keys of ``stop_early``; None stops nobody."""

    name: str
    sampler: Any
    stopping: Mapping[str, Any] | None = field(default=None, hash=False)

    def stop_early(self) -> StopEarly | None:
        """The rule, as a study would have it."""
        if self.stopping is None:
            return None
        return TypeAdapter(StopEarly).validate_python(self.stopping)


def read_policy(text: str) -> Policy:
    """Raises InputError."""
    sampler, plus, rule = (part.strip() for part in text.partition("+"))
    if sampler not in SAMPLERS:
        near = did_you_mean(sampler, SAMPLERS) or f", expected one of {', '.join(SAMPLERS)}"
        raise InputError(f"--policy {text}: no sampler '{sampler}'{near}")
    if not plus:
        return Policy(text, sampler)
    try:
        keys = yaml.safe_load(rule)
        stopping = {"kind": keys} if isinstance(keys, str) else dict(keys)
        TypeAdapter(StopEarly).validate_python(stopping)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is none"
        raise InputError(
            f"--policy {text}: expected SAMPLER+moasha or keys of stop_early, such as 'tpe+{{keep: 1/3}}' ({detail})"
        ) from None
    return Policy(text, sampler, stopping)
