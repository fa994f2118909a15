"""What a trial says of itself and is to be tried again: its attacks, its images, and the parts it is tried in.

A part is a file in the study's folder. Its name says everything that its content depends on, so whatever is there
need not be paid for again: after a kill, or when an attack is asked for that was run before.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from robustcore.evaluation import Evaluation
from robustcore.evaluation.flags import added, flags
from robustcore.evaluation.outcome import CLEAN, Survival, accuracies
from robustcore.recipe import recipe_from
from robustcore.storage import Folder
from sweeps.certify.strength import Strength, data_sets, strong_attacks
from sweeps.results import Certificate, TrialRecord
from sweeps.stored import embeddings_cache, patience, shared_embeddings
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
        contents = [part.found() for part in self.parts]
        found = [content for content in contents if content is not None]
        if len(found) < len(contents):
            return None
        survivals, evidence = {}, {}
        for dataset in self.samples:
            own = [content for part, content in zip(self.parts, found, strict=True) if part.dataset == dataset]
            survivals[dataset] = self._survival(own)
            evidence[dataset] = added(content["evidence"] for content in own)
        warnings = flags(self._evaluation.attacks, survivals, evidence)
        seconds = sum(content["seconds"] for content in found)
        return Certificate(self._metrics(survivals), self.attacks, self.samples, warnings, seconds)

    @property
    def _evaluation(self) -> Evaluation:
        return recipe_from(self.parts[0].recipe).evaluation

    def _survival(self, contents: Sequence[dict[str, Any]]) -> Survival:
        """One data set, part after part; an attack that equals an earlier one was run under its name alone."""
        first = {
            name: next(n for n, other in self.attacks.items() if other == own) for name, own in self.attacks.items()
        }
        rows = {
            name: "".join(content["survived"][ran] for content in contents)
            for name, ran in {CLEAN: CLEAN, **first}.items()
        }
        survived = {name: np.array(list(row)) == "1" for name, row in rows.items()}
        classes = tuple(map(str, range(contents[0]["classes"])))  # their names are of no interest here
        return Survival(classes, np.zeros(len(survived[CLEAN]), np.int64), survived)

    def _metrics(self, survivals: dict[str, Survival]) -> dict[str, float]:
        """Those that are named as the searched ones and mean the same."""
        every_set = len(self.samples) == len(self._evaluation.names())
        return {name: value for name, value in accuracies(survivals).items() if every_set or "/" in name}


def claim_of(study: Study, folder: Folder, record: TrialRecord, strength: Strength) -> Claim:
    """What is to be tried of a finished trial. Raises RequestError where the attack is none, DataError for the data."""
    plain = recipe_from(record.recipe).as_json()
    attacks = strong_attacks(study, plain, strength)
    counts = data_sets(study, attacks, record.samples or _counted(record))
    samples = {name: min(count, strength.samples or count) for name, count in counts.items()}
    plain["evaluation"]["attacks"] = _distinct(attacks)
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
            shared=shared_embeddings(study.storage),
            dataset=name,
            count=counts[name],
            samples=samples[name],
            first=first,
            end=end,
            cpus=study.resources.cpus,
            gpus=study.resources.gpus,
            patience=patience(),
        )
        for name in samples
        for first, end in _stretches(samples[name])
    )
    return Claim(record.trial, attacks, samples, parts)


def _distinct(attacks: Mapping[str, Any]) -> dict[str, Any]:
    """Each attack once: two that the search told apart, in one ball, may be the same now."""
    kept: dict[str, Any] = {}
    for name, attack in attacks.items():
        if attack not in kept.values():
            kept[name] = attack
    return kept


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
