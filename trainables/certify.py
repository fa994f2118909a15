"""A part of a certificate: some images of one data set, attacked again with a trial's final weights, as one Ray task.

What it finds is one file, whole or absent: whoever certifies next does not pay for it again. The next hop is
``robustcore.evaluation.Suite.attacked``.
"""

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from robustcore.data.images import subset
from robustcore.errors import InputError
from robustcore.evaluation import Suite
from robustcore.process import Process
from robustcore.recipe import recipe_from
from robustcore.storage import PATIENCE, Folder
from robustcore.trained import Trained, load_trained
from trainables.checkpoints import load_checkpoint
from trainables.memory import keep_to_share
from trainables.resources import threads
from trainables.worker import described


@dataclass(frozen=True)
class Part:
    """Images ``first`` to ``end`` of the ``samples`` that are drawn of ``count``. All plain values: it travels.

    ``recipe`` is the trial's, but for ``evaluation.attacks``, which are those to run; ``fingerprint`` is the trial's.
    """

    trial: str
    recipe: dict[str, Any]
    fingerprint: str
    folder: str  # path or URI of the trial's folder on storage
    place: str  # of the folder of the file
    cache: str  # local folder of the original embeddings
    dataset: str
    count: int
    samples: int
    first: int
    end: int
    shared: str = ""  # where machines share them
    cpus: float = 1.0
    gpus: float = 0.0
    patience: float = PATIENCE  # seconds for which it waits for its storage

    @property
    def file(self) -> str:
        """Its name."""
        return f"{quote(self.dataset, safe='')}-{self.first:06d}-{self.end:06d}.json"

    def found(self) -> dict[str, Any] | None:
        """What an earlier task found; None without.

        ``survived`` by attack, a text of 0 and 1; ``evidence`` for flags; the number of ``classes``; ``seconds``.
        """
        try:
            found: dict[str, Any] = json.loads(Folder(self.place).read(self.file))
            lengths = {len(bits) for bits in found["survived"].values()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return found if lengths == {self.end - self.first} else None


def measure(part: Part) -> tuple[str, str]:
    """Write the part's file. What goes wrong in the request or in the code is a sentence and, of a bug, its traceback.

    A crash is left to mean a lost machine, which Ray answers with another try.
    """
    torch.set_num_threads(threads(part.cpus))
    try:
        found = json.dumps(_measured(part)).encode()
        Folder(part.place, part.patience, _study(part.folder)).write(part.file, found)
    except Exception as error:
        return described(error)
    return "", ""


def _study(trial: str) -> str:
    """The folder of the study that a trial's folder is in: where it is gone, the storage is."""
    return Folder(trial).above.above.uri


def _measured(part: Part) -> dict[str, Any]:
    started = time.perf_counter()
    device = torch.device("cuda", 0) if part.gpus else torch.device("cpu")
    process = Process(device=device, cache=Path(part.cache), shared=part.shared)
    keep_to_share(part.gpus, process.device)
    trial = (json.dumps(part.recipe), part.fingerprint, Folder(part.folder, part.patience, _study(part.folder)))
    trained, suite = _trained(*trial, process), _suite(part.dataset, *trial, process)
    images = suite.images(part.dataset)
    if len(images.labels) != part.count:
        words = f"it was measured on {part.count} images, and now there are {len(images.labels)}"
        raise InputError(f"the data set '{part.dataset}' has changed since the search: {words}")
    chosen = subset(part.count, part.samples)[part.first : part.end]
    survived, evidence = suite.attacked(part.dataset, chosen, trained.loaded.encoder, process)
    return {
        "classes": len(images.classes),
        "survived": {name: "".join(str(int(alive)) for alive in one) for name, one in survived.items()},
        "evidence": evidence,
        "seconds": time.perf_counter() - started,
    }


# A process is handed part after part, mostly of one trial: it reads the weights and opens the data once.


@lru_cache(maxsize=1)
def _trained(recipe: str, fingerprint: str, folder: Folder, process: Process) -> Trained:
    checkpoints = folder.at("checkpoints")
    saved = load_checkpoint(checkpoints, fingerprint)
    if saved is None or not saved.is_final:
        what = "no checkpoint" if saved is None else "no final checkpoint"
        raise InputError(f"{what} that is whole in {checkpoints.uri}, so there are no weights to attack")
    return load_trained(recipe_from(json.loads(recipe)), saved.state.weights, process)


@lru_cache(maxsize=1)
def _suite(dataset: str, recipe: str, fingerprint: str, folder: Folder, process: Process) -> Suite:
    """In float32 whatever the trial ran in: a certificate is to be as low as it can get."""
    known, trained = recipe_from(json.loads(recipe)), _trained(recipe, fingerprint, folder, process)
    evaluation, preprocessing = known.evaluation.only(dataset), trained.loaded.preprocessing
    return Suite(evaluation, trained.classifier_of, preprocessing, known.seed, torch.float32)
