"""A suite of data sets by its name: every set with its own class names and prompts, found below one folder."""

from collections.abc import Iterator
from functools import cache

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from robustcore.data import Data
from robustcore.errors import InputError
from robustcore.suites import set_info, suite_sets
from robustcore.suites.resolve import resolve
from robustcore.types import STRICT, DataPath, PositiveCount


@dataclass(frozen=True, config=STRICT)
class NamedSuite:
    """A suite of ``robustcore.suites``, or ``only`` some of its sets; at most ``limit`` images of each set."""

    name: str
    root: DataPath
    limit: PositiveCount | None = None  # the same images in every run
    only: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _is_known(self) -> "NamedSuite":
        known = suite_sets(self.name)
        for name in self.only or ():
            if name not in known:
                message = f"'{name}' is not in the suite {self.name}, expected some of: {', '.join(known)}"
                raise InputError(message, "only")
        if self.only == ():
            raise InputError("expected at least one set, or no such key for all of them", "only")
        return self

    def names(self) -> tuple[str, ...]:
        """The ids of its sets."""
        return tuple(name for name in suite_sets(self.name) if self.only is None or name in self.only)

    def sets(self) -> Iterator[tuple[str, Data, tuple[str, ...]]]:
        """Id, source and CLIP's prompts of each set. Raises DataError where one is missing."""
        for name in self.names():
            yield name, _resolved(name, self.root, self.limit), set_info(name).templates

    def missing(self) -> list[str]:
        """A sentence for each set that cannot be used, with how to get it."""
        sentences = []
        for name in self.names():
            try:
                _resolved(name, self.root, self.limit)
            except InputError as error:
                sentences.append(str(error))
        return sentences


_resolved = cache(resolve)  # opens the set: an ImageNet of files takes a while
