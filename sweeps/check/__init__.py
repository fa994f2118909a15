"""What an hour of a cluster could be lost to, found at once: all that a study names is opened, nothing started."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from robustcore.attacks import Attack, AutoAttack
from robustcore.data import Captions, Data, FewShot, ImageSet
from robustcore.errors import InputError
from robustcore.evaluation import NamedSuite
from robustcore.evaluation.retrieval import CaptionsAsClasses
from robustcore.losses import check_climb
from robustcore.models import Model
from robustcore.types import Climb
from sweeps.check.earlier import earlier_problems
from sweeps.check.probe import why_not_writable
from sweeps.source import STORAGE, Problem, Source, StudyError, absolute_storage, in_order, read_source
from sweeps.source.marked import KeyPath
from sweeps.source.settings import put, recipe_keys
from sweeps.study import Study, draft_study
from sweeps.study.keys import Resources, Storage
from sweeps.study.rules import adapter, counts, given_at, mapping, part
from sweeps.study.sentences import shown
from sweeps.study.space import Space

if TYPE_CHECKING:
    from trainables.resources import Node

MAX_DECODED = 20_000  # of each set; of a larger one, an even sample
_BLOCK = 256


def check_study(
    study: str, settings: Sequence[str] = (), nodes: "Sequence[Node] | None" = None
) -> tuple[Study | None, list[Problem], list[str]]:
    """The study if it can be launched, every problem by line, and notes on what cannot be known yet.

    ``nodes`` are the machines it would run on (``trainables.resources``); None leaves that question out.
    """
    try:
        source = read_source(study, settings)
    except StudyError as error:
        return None, list(error.problems), []
    return check_source(source, nodes)


def check_source(
    source: Source, nodes: "Sequence[Node] | None" = None
) -> tuple[Study | None, list[Problem], list[str]]:
    """As ``check_study``, of a study that has been read."""
    loaded, problems, knobs = draft_study(source)
    notes: list[str] = []
    problems += _content_problems(source, knobs, notes)
    problems += _storage_problems(source)
    problems += earlier_problems(source)
    problems += _machine_problems(source, nodes)
    if nodes is not None and any(node.gpus for node in nodes) and not source.at("resources", "gpus"):
        notes.append("no trial uses a GPU, though there are some; set resources.gpus")
    return (None if problems else loaded), list(in_order(problems)), notes


def check_contents(source: Source) -> list[Problem]:
    """What is wrong with the data and the weights that a sound study names, which must be on this machine."""
    _, _, knobs = draft_study(source)
    return list(_content_problems(source, knobs, []))


def _content_problems(source: Source, knobs: dict[str, Space], notes: list[str]) -> Iterator[Problem]:
    yield from _data_problems(source, knobs, notes)
    yield from _model_problems(source, knobs, notes)


def _variants(source: Source, knobs: dict[str, Space], kind: Any, keys: KeyPath) -> Iterator[tuple[KeyPath, str, Any]]:
    """Place, words and value of the component at ``keys``: as it stands, and at each end of the knobs inside it.

    What is not valid is left out: it has been reported.
    """
    written = source.at(*keys)
    variants = [(keys, "", written)]
    for path, knob in knobs.items():
        below = ("recipe", *recipe_keys(source.at("recipe"), path))
        if below[: len(keys)] == keys:
            place = given_at(source, path)
            variants += [
                (place, f"at {shown(value)}: ", put(written, below[len(keys) :], value)) for value in knob.ends()
            ]
    for place, at, plain in variants:
        try:
            component = adapter(kind).validate_python(plain, context={"base": source.folder})
        except ValidationError:
            continue
        yield place, at, component


def _below(place: KeyPath, key: str) -> KeyPath:
    """The place of a component's ``key``; a knob's values have no keys."""
    return place if place[0] == "knobs" or not key else (*place, *key.split("."))


def _data_problems(source: Source, knobs: dict[str, Space], notes: list[str]) -> Iterator[Problem]:
    train: KeyPath = ("recipe", "data", "train")
    names = mapping(source, "recipe", "evaluation", "datasets")
    decoded = set()
    trained: ImageSet | None = None
    for keys in (train, *(("recipe", "evaluation", "datasets", name) for name in names)):
        for place, at, data in _variants(source, knobs, Data, keys):
            try:
                images = data.open()
            except (InputError, OSError, pa.ArrowException) as error:
                yield source.problem(_below(place, getattr(error, "key", "")), f"{at}{error}")
                continue
            if keys == train:
                trained = images
                yield from _shots_problems(source, knobs, images)
                yield from _batch_problems(source, knobs, images)
            yield from _class_problems(source, keys, images, trained)
            if data not in decoded:
                decoded.add(data)
                yield from _image_problems(
                    source, _below(place, "path" if hasattr(data, "path") else "root"), images, notes
                )
    yield from _suite_problems(source, knobs, trained, notes)
    yield from _caption_problems(source, notes)


def _suite_problems(
    source: Source, knobs: dict[str, Space], trained: ImageSet | None, notes: list[str]
) -> Iterator[Problem]:
    """Each set that is missing, with how to get it; and what is wrong with those that are there."""
    for place, at, suite in _variants(source, knobs, NamedSuite | None, ("recipe", "evaluation", "suite")):
        missing = suite.missing() if suite is not None else []
        yield from (source.problem(place, f"{at}{sentence}") for sentence in missing)
        for _, data, _ in suite.sets() if suite is not None and not missing else ():
            images = data.open()
            yield from _class_problems(source, place, images, trained)
            yield from _image_problems(source, _below(place, "root"), images, notes)


def _caption_problems(source: Source, notes: list[str]) -> Iterator[Problem]:
    for name in mapping(source, "recipe", "evaluation", "retrieval"):
        keys = ("recipe", "evaluation", "retrieval", name)
        for place, _, captions in _variants(source, {}, Captions, keys):
            try:
                images = CaptionsAsClasses(captions.open())
            except (InputError, OSError, pa.ArrowException) as error:
                yield source.problem(_below(place, getattr(error, "key", "")), str(error))
                continue
            yield from _image_problems(source, _below(place, "path"), images, notes)


def _shots_problems(source: Source, knobs: dict[str, Space], images: ImageSet) -> Iterator[Problem]:
    shots = counts(source, knobs, "data.shots", 0)
    if shots is not None and shots[1]:
        try:
            FewShot(images, shots[1], seed=0)
        except InputError as error:
            yield source.problem(given_at(source, "data.shots"), str(error))


def _batch_problems(source: Source, knobs: dict[str, Space], images: ImageSet) -> Iterator[Problem]:
    sizes, count = counts(source, knobs, "data.batch_size", 128), len(images.labels)
    shots = counts(source, knobs, "data.shots", 0)
    if shots is not None and shots[0]:
        count = min(count, shots[0] * len(images.classes))
    if sizes is not None and sizes[1] > count:
        few = f" with {shots[0]} of each class" if shots is not None and shots[0] else ""
        yield source.problem(
            given_at(source, "data.batch_size"),
            f"expected at most {count}, the number of training images{few} in {images.name}, got {sizes[1]}",
        )


def _class_problems(source: Source, keys: KeyPath, images: ImageSet, trained: ImageSet | None) -> Iterator[Problem]:
    """Attacks that compare more classes than there are, and classes that a linear probe does not know."""
    attacks: list[KeyPath] = [("recipe", "attack")]
    if images is not trained:
        names = mapping(source, "recipe", "evaluation", "attacks")
        attacks = [("recipe", "evaluation", "attacks", name) for name in names]
        is_probed = source.at("recipe", "model", "kind") == "simclr"
        if is_probed and trained is not None and images.classes != trained.classes:
            yield source.problem(
                keys, f"expected the classes of the training images, {trained.name}, which the linear probe knows"
            )
    for place in attacks:
        climb: Climb | None = part(source, Climb | None, *place, "climb")
        if climb is not None:
            try:
                check_climb(climb, len(images.classes), "")
            except InputError as error:
                yield source.problem((*place, "climb"), str(error))
        attack: Attack | None = part(source, Attack, *place)
        if isinstance(attack, AutoAttack):
            try:
                attack.check_classes(len(images.classes))
            except InputError as error:
                yield source.problem((*place, error.key), str(error))


def _image_problems(source: Source, place: KeyPath, images: ImageSet, notes: list[str]) -> Iterator[Problem]:
    count = len(images.labels)
    positions = np.arange(count)
    if count > MAX_DECODED:
        positions = np.linspace(0, count - 1, MAX_DECODED).astype(np.int64)
        notes.append(f"{images.name}: {MAX_DECODED} of its {count} images were decoded, an even sample")
    corrupt = _corrupt(images, positions)
    if corrupt:
        more = f" (and {len(corrupt) - 1} more images of this set)" if len(corrupt) > 1 else ""
        yield source.problem(place, f"{corrupt[0]}{more}")


def _corrupt(images: ImageSet, positions: np.ndarray) -> list[str]:
    """A sentence for each image that cannot be decoded. Blocks are neighbours: they share what is read."""

    def decode(block: np.ndarray) -> list[str]:
        found = []
        for index in block:
            try:
                images.decode(int(index))
            except (InputError, OSError, pa.ArrowException) as error:
                found.append(str(error))
        return found

    blocks = np.array_split(positions, -(-len(positions) // _BLOCK))
    with ThreadPoolExecutor() as threads:
        return [sentence for found in threads.map(decode, blocks) for sentence in found]


def _model_problems(source: Source, knobs: dict[str, Space], notes: list[str]) -> Iterator[Problem]:
    checked, said = set(), set()
    for place, at, model in _variants(source, knobs, Model, ("recipe", "model")):
        if model in checked:
            continue
        checked.add(model)
        try:
            model.check()
        except (InputError, OSError) as error:
            if str(error) not in said:  # what is wrong as it stands is wrong at every end of a knob
                yield source.problem(_below(place, getattr(error, "key", "")), f"{at}{error}")
            said.add(str(error))
            continue
        if model.needs_download():
            notes.append(f"the weights '{model.weights}' of {model.architecture} are downloaded by the first trial")


def _storage_problems(source: Source) -> Iterator[Problem]:
    storage: str | None = part(source, Storage, "storage") if source.at("storage") is not None else None
    if source.at("storage") is None:
        storage = absolute_storage(STORAGE)
    reason = why_not_writable(storage) if storage is not None else ""
    if reason:
        yield source.problem(("storage",), reason)


def _machine_problems(source: Source, nodes: "Sequence[Node] | None") -> Iterator[Problem]:
    from trainables.resources import Demand, capacity

    written = source.at("resources")
    resources: Resources | None = part(source, Resources, "resources") if written is not None else Resources()
    if nodes is None or resources is None:
        return
    workers, cpus, gpus = resources.workers, resources.cpus, resources.gpus
    if capacity(Demand(workers, cpus, gpus), nodes) > 0:
        return
    short_of_gpus = capacity(Demand(workers, 0, gpus), nodes) == 0 and gpus > 0
    key, each = ("gpus", gpus) if short_of_gpus else ("cpus", cpus)
    has = sum(getattr(node, key) for node in nodes)
    where = "this machine has" if len(nodes) == 1 else f"the {len(nodes)} machines have"
    yield source.problem(
        ("resources", key),
        f"a trial needs {_product(workers, each)} {key[:-1].upper()}s, expected no more than {where}: {has:g}",
    )


def _product(workers: int, each: float) -> str:
    return f"{each:g}" if workers == 1 else f"{workers} x {each:g} = {workers * each:g}"
