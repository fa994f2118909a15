"""Searches whose whole state is rows of tensors, one an image: images join and leave them in the middle.

A row counts its own steps and has its own random numbers, so nothing depends on which rows are beside it.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from robustcore.types import Images, PerImage


class Rows:
    """Whatever of it is a tensor is (B, ...), one row an image; everything else is the same for all rows."""

    def at(self, rows: Tensor) -> Self:
        """Those rows alone; int64 (b,)."""
        return self._with(
            {name: value.at(rows) if isinstance(value, Rows) else value[rows] for name, value in self._all()}
        )

    def joined(self, others: Self) -> Self:
        """These rows and then the others."""
        return self._with({name: _joined(value, getattr(others, name)) for name, value in self._all()})

    def _all(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Tensor | Rows)]

    def _with(self, changes: dict[str, Any]) -> Self:
        other = copy(self)
        vars(other).update(changes)
        return other


def _joined(one: Any, other: Any) -> Any:
    return one.joined(other) if isinstance(one, Rows) else torch.cat([one, other])


@dataclass(frozen=True)
class Look:
    """What a search sees at its points: the loss that it climbs, its gradient in the pixels, and what is classified."""

    loss: PerImage
    gradient: Tensor | None = None  # (B, 3, H, W); none for a search that asks for none
    wrong: Tensor | None = None  # (B,) bool: the points that are classified wrong


class Search(Protocol):
    """Looks at its points, one after the other; each look leads to the next points."""

    images: Images
    points: Images  # where to look next
    step: Tensor  # (B,) int64: how often each row has looked

    def saw(self, look: Look) -> None:
        """Move on to the next points."""
        ...

    def at(self, rows: Tensor) -> Self:
        """See ``Rows``."""
        ...

    def joined(self, others: Self) -> Self:
        """See ``Rows``."""
        ...
