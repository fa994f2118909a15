"""The encoder before anything has changed it, and the classifiers that come from it or from its text tower."""

from functools import cached_property

import numpy as np
import torch

from robustcore.data import ImageSet, NativePixels, Pixels
from robustcore.data.references import original_embeddings
from robustcore.errors import DataError
from robustcore.evaluation import ClassifierOf
from robustcore.evaluation.probe import cached_probe
from robustcore.losses import Classifier, ZeroShot
from robustcore.models import Loaded, TextTower
from robustcore.models.native import NativeResolution
from robustcore.process import Process


class Original:
    """To be asked before training changes a weight; what it says is kept in the process's cache."""

    def __init__(self, loaded: Loaded, process: Process) -> None:
        self.loaded, self._process = loaded, process

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights."""
        return self.loaded.encoder.fingerprint()

    def identify(self) -> None:
        """Take the fingerprint now: once LoRA is attached, the weights are the same and their names are not."""
        assert self.fingerprint

    def embeddings(self, pixels: Pixels | NativePixels) -> np.ndarray:
        """phi0(x), (N, D)."""
        process, encoder, fingerprint = self._process, self.loaded.encoder, self.fingerprint
        if isinstance(pixels, NativePixels):
            encoder = NativeResolution(encoder, self.loaded.preprocessing)
            fingerprint += f"|{self.loaded.preprocessing}"
        return original_embeddings(encoder, fingerprint, pixels, process.cache, process.device, process.shared)

    def probe(self, pixels: Pixels) -> ClassifierOf:
        """A linear probe fitted on ``pixels``, for every image set with their classes; DataError for any other."""
        trained = pixels.images
        key = f"{self.fingerprint}|{trained.fingerprint}|{pixels.preprocessing}"
        process = self._process
        probe = cached_probe(
            self.embeddings(pixels),
            trained.labels,
            len(trained.classes),
            process.device,
            process.cache,
            key,
            shared=process.shared,
        )
        process.agree([probe.weight, probe.bias])

        def classifier_of(images: ImageSet, _prompts: tuple[str, ...]) -> Classifier:
            if images.classes != trained.classes:
                raise DataError(
                    f"{images.name} has other classes than the training images; a linear probe knows those of "
                    f"{trained.name} alone",
                    "evaluation.datasets",
                )
            return probe

        return classifier_of


def zero_shot_by(tower: TextTower) -> ClassifierOf:
    """Rows as the tower has them when they are asked for."""

    @torch.no_grad()
    def classifier_of(images: ImageSet, prompts: tuple[str, ...]) -> Classifier:
        return ZeroShot(tower.rows(images.classes, prompts), tower.scale)

    return classifier_of
