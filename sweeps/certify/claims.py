"""What a trial says of itself and is to be tried again: its attacks, its images, and the parts it is tried in.

A part is a file in the study's folder. Its name says everything that its content depends on, so whatever is there
need not be paid for again: after a kill, or when an attack is asked for that was run before.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from robustcore.evaluation.outcome import Survival, accuracies
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.certify.strength import Strength, data_sets, strong_attacks
from sweeps.results import Certificate, TrialRecord
from sweeps.stored import embeddings_cache
from sweeps.study import Study
from trainables.certify import Part

AT_ONCE = 100  # images of a part, at most: few enough to be spread and to be lost, enough to fill a GPU


@dataclass(frozen=True)
class Claim:
    """One trial under attack: ``attacks`` as a recipe writes them, ``samples`` by data set."""

    trial: str
    attacks: dict[str, Any]
    samples: dict[str, int]
    parts: tuple[Part, ...]

    def missing(self) -> list[Part]:
        """The parts that no task has measured yet."""
        return [part for part in self.parts if part.found() is None]

    def certificate(self) -> Certificate | None:
        """What its parts say together; None while one is missing."""
        found = [(part, part.found()) for part in self.parts]
        survivals, seconds = {}, 0.0
        for dataset in self.samples:
            bits: dict[str, str] = {}
            for part, content in found:
                if content is None:
                    return None
                if part.dataset == dataset:
                    bits = {name: bits.get(name, "") + more for name, more in content["survived"].items()}
                    seconds += content["seconds"]
            survived = {name: np.array(list(row)) == "1" for name, row in bits.items()}
            survivals[dataset] = Survival((), np.zeros(self.samples[dataset], np.int64), survived)
        return Certificate(self._metrics(survivals), self.attacks, self.samples, {}, seconds)

    def _metrics(self, survivals: dict[str, Survival]) -> dict[str, float]:
        """Those that are named as the searched ones and mean the same."""
        every_set = len(self.samples) == len(recipe_from(self.parts[0].recipe).evaluation.names())
        return {name: value for name, value in accuracies(survivals).items() if every_set or "/" in name}


def claim_of(study: Study, folder: Folder, record: TrialRecord, strength: Strength) -> Claim:
    """What is to be tried of a finished trial. Raises RequestError where the attack is none, DataError for the data."""
    plain = recipe_from(record.recipe).as_json()
    attacks = strong_attacks(study, plain, strength)
    counts = data_sets(study, attacks, record.samples or _counted(record))
    samples = {name: min(count, strength.samples or count) for name, count in counts.items()}
    plain["evaluation"]["attacks"] = attacks
    content = json.dumps([record.recipe_hash, attacks, counts, samples, version("robust-sweeps")], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    parts = tuple(
        Part(
            trial=record.trial,
            recipe=plain,
            fingerprint=record.recipe_hash,
            folder=folder.at(f"trials/{record.trial}").uri,
            place=folder.at(f"certified/{record.trial}-{digest}").uri,
            cache=str(embeddings_cache(study.storage)),
            dataset=name,
            count=counts[name],
            samples=samples[name],
            first=first,
            end=end,
            cpus=study.resources.cpus,
            gpus=study.resources.gpus,
        )
        for name in samples
        for first, end in _stretches(samples[name])
    )
    return Claim(record.trial, attacks, samples, parts)


def _counted(record: TrialRecord) -> dict[str, int]:
    """Of a trial whose results are too old to say how many images it was measured on."""
    return {name: len(source.open().labels) for name, source, _ in recipe_from(record.recipe).evaluation.sets()}


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    """``count`` images in the fewest equal parts."""
    parts = math.ceil(count / AT_ONCE)
    return ((count * part // parts, count * (part + 1) // parts) for part in range(parts))


def images(parts: Iterable[Part]) -> int:
    """How many they attack."""
    return sum(part.end - part.first for part in parts)
