"""One data set under attack: image by image who survives what, and what was noticed on the way.

AutoAttack replaces images one by one, so it is given all of them; every other attack is given batch after batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustcore.attacks import Attack, AutoAttack, Clean
from robustcore.data import NativePixels, Pixels
from robustcore.data.images import as_pixels
from robustcore.evaluation.autoattack import Victim, withstand
from robustcore.evaluation.conditions import Batch, Conditions
from robustcore.evaluation.flags import PROBED, Evidence, added, blank, of_gradients, of_probe, of_verdict
from robustcore.evaluation.outcome import CLEAN
from robustcore.evaluation.survivors import survivors
from robustcore.losses import Classifier, Reference
from robustcore.models import Encoder
from robustcore.stalls import ZeroGradients


@dataclass
class Exhibit:
    """A data set as it is measured: its images as they are attacked, and the classifier over its classes."""

    pixels: Pixels | NativePixels
    prompts: tuple[str, ...]
    classifier: Classifier
    anchors: np.ndarray | None = None  # (N, D), phi0(x), where drift is measured

    def known(self, batch: Batch) -> Reference:
        """What is known about some of the images."""
        labels = torch.from_numpy(self.pixels.images.labels[batch.indices]).to(batch.images.device)
        return Reference(labels, classifier=self.classifier)

    def survived(
        self, encoder: Encoder, attacks: Mapping[str, Attack], chosen: np.ndarray, conditions: Conditions
    ) -> tuple[dict[str, np.ndarray], Evidence]:
        """Of the images at ``chosen`` (n,): by attack, and for ``clean``, (n,) bool; and the evidence for flags."""
        found, evidence = self._climbed(encoder, attacks, chosen, conditions)
        noticed = [blank(attacks), evidence]
        for name, attack in attacks.items():
            if isinstance(attack, AutoAttack):
                found[name], evidence = self._withstood(encoder, name, attack, chosen[found[CLEAN][chosen]], conditions)
                noticed.append(evidence)
        return {name: found[name][chosen] for name in (CLEAN, *attacks)}, added(noticed)

    def _climbed(
        self, encoder: Encoder, attacks: Mapping[str, Attack], chosen: np.ndarray, conditions: Conditions
    ) -> tuple[dict[str, np.ndarray], Evidence]:
        """(N,) bool each: the clean images, and the attacks that climb one loss."""
        climbers = {name: attack for name, attack in attacks.items() if not isinstance(attack, AutoAttack)}
        watches = {name: ZeroGradients() for name in (CLEAN, *climbers)}
        found = {name: np.zeros(len(self.pixels), bool) for name in watches}
        for batch in conditions.batches(self.pixels, chosen):
            survived = survivors(
                encoder,
                [Clean(), *climbers.values()],
                batch.images,
                self.known(batch),
                batch.noise,
                conditions.precision,
                list(watches.values()),
            )
            for name, one in zip(watches, survived, strict=True):
                found[name][batch.indices] = one.numpy()
        return found, added(of_gradients(name, watches[name]) for name in climbers)

    def _withstood(
        self, encoder: Encoder, name: str, attack: AutoAttack, right: np.ndarray, conditions: Conditions
    ) -> tuple[np.ndarray, Evidence]:
        """(N,) bool; ``right`` (n,) are the images that are right as they stand."""
        found, noticed = np.zeros(len(self.pixels), bool), []
        for group in self.pixels.batches(right, max(len(right), 1)):  # at native resolution, those of one size
            victim = self._victim(encoder, group, conditions)
            verdict = withstand(attack, victim, conditions.batch_size)
            found[group] = verdict.survived.numpy()
            noticed.append(of_verdict(name, verdict))
            probed = torch.from_numpy(np.flatnonzero(group < PROBED))
            noticed += [
                of_probe(name, attack, victim, some) for some in probed.split(conditions.batch_size) if len(some)
            ]
        return found, added(noticed)

    def _victim(self, encoder: Encoder, group: np.ndarray, conditions: Conditions) -> Victim:
        device = conditions.process.device
        labels = torch.from_numpy(self.pixels.images.labels[group]).to(device)

        def images(places: Tensor) -> Tensor:
            return as_pixels(self.pixels.at(group[places.numpy()]), device)

        return Victim(encoder, self.classifier, labels, images, conditions.noise(group), conditions.precision)
