"""Flags: why the numbers of an evaluation may be better than the encoder is, each a sentence under a fixed name.

They are read off evidence: sums over images, so that the parts of a set that several processes measured add up.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from robustcore.attacks import APGD, Attack, AutoAttack, Clean
from robustcore.evaluation.autoattack import Verdict, Victim
from robustcore.evaluation.outcome import Survival
from robustcore.losses import Reference, cross_entropy
from robustcore.precision import without_weight_gradients
from robustcore.stalls import ZeroGradients
from robustcore.types import Images, PerImage

Evidence = dict[str, float]

PROBED = 64  # of the first images of a set, those that are right are what two of the checks look at
RADII = (0.5, 1.0, 2.0)  # of eps
_PROBE_STEPS = 10

# A sound encoder has none: its gradients are zero where pixels have been cropped away, which is never most of a photo.
_STALLED = 0.05  # of all gradients
# Where gradients are right, Square finds hardly anything that they do not.
_ALONE, _LEAST_ALONE = 0.005, 2  # of all images, and images
_RISE = 0.1  # of the loss at half eps, at least, from there to twice eps
_OVERSTATED = 0.01  # of all images
_ENOUGH_CLASSES = 10
_DIFFERENT = 1e-4  # of the logits' size: far more than another order of a sum makes, far less than a dropout


def added(parts: Iterable[Evidence]) -> Evidence:
    """The evidence of a whole from that of its parts."""
    total: Evidence = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def blank(attacks: Mapping[str, Attack]) -> Evidence:
    """All that there is evidence of, at zero: who has seen no images must agree with the others on the names."""
    found = [of_gradients(name, ZeroGradients()) for name in attacks]
    for name, attack in attacks.items():
        if isinstance(attack, AutoAttack):
            found += [of_gradients(f"{name} ({stage})", ZeroGradients()) for stage in attack.possible]
            found.append({f"{what}/{name}": 0.0 for what in ("alone", "random", "probed", *map(str, RADII))})
    return added(found)


def of_gradients(name: str, gradients: ZeroGradients) -> Evidence:
    """What an attack, or one stage of it, saw of gradients."""
    return {f"{count}/{name}": value for count, value in gradients.counts().items()}


def of_verdict(name: str, verdict: Verdict) -> Evidence:
    """What the stages of an AutoAttack saw, together and each, and what Square found that gradients did not."""
    stages = [of_gradients(f"{name} ({stage})", gradients) for stage, gradients in verdict.gradients.items()]
    together = [of_gradients(name, gradients) for gradients in verdict.gradients.values()]
    led_up_to = "square" in verdict.stages[1:]
    alone = verdict.fooled_by()["square"] if led_up_to else 0
    return added([*stages, *together, {f"alone/{name}": alone}])


def of_probe(name: str, attack: AutoAttack, victim: Victim, places: Tensor) -> Evidence:
    """Of the images at ``places``: whether two passes over them differ, and how a short APGD's loss rises with eps."""
    images, labels = victim.images(places), victim.labels[places.to(victim.labels.device)]
    keys = replace(victim.noise, keys=victim.noise.keys[places.to(victim.labels.device)])
    reference = Reference(labels, classifier=victim.classifier)

    def loss_at(pixels: Images) -> PerImage:
        return cross_entropy(victim.encoder(pixels), reference)

    with torch.no_grad():
        one, other = victim.logits(images), victim.logits(images)
        moved = (one - other).norm(dim=1) > _DIFFERENT * one.norm(dim=1)
    found = {f"probed/{name}": float(len(places)), f"random/{name}": float(moved.sum())}
    with without_weight_gradients(victim.encoder):
        for radius in RADII:
            ball = replace(attack.ball, eps=min(radius * attack.ball.eps, 1.0))
            worst = APGD(ball, steps=_PROBE_STEPS)(loss_at, images, keys)
            with torch.no_grad():
                found[f"{radius}/{name}"] = float(loss_at(worst).sum())
    return found


def flags(
    attacks: Mapping[str, Attack], survivals: Mapping[str, Survival], evidence: Mapping[str, Evidence]
) -> dict[str, str]:
    """By name; a sentence for each data set that gives reason for one."""
    found: dict[str, list[str]] = {}
    for dataset, survival in survivals.items():
        for name, sentence in _of_set(attacks, dataset, survival, evidence[dataset]):
            found.setdefault(name, []).append(sentence)
    return {name: " ".join(sentences) for name, sentences in found.items()}


def _of_set(
    attacks: Mapping[str, Attack], dataset: str, survival: Survival, evidence: Evidence
) -> Iterator[tuple[str, str]]:
    yield from _zero_gradient(dataset, evidence)
    for name, attack in attacks.items():
        if isinstance(attack, AutoAttack):
            yield from _alone(name, dataset, survival, evidence)
            yield from _flat(name, attack, dataset, evidence)
            yield from _randomised(name, attack, dataset, evidence)
            yield from _fewer_stages(name, attack, dataset, survival)
            for other, weaker in attacks.items():
                if not isinstance(weaker, AutoAttack | Clean) and weaker.ball == attack.ball:
                    yield from _overstated(other, name, dataset, survival)


def _zero_gradient(dataset: str, evidence: Evidence) -> Iterator[tuple[str, str]]:
    shares = {
        name.removeprefix("stalled/"): count / evidence[name.replace("stalled/", "taken/", 1)]
        for name, count in evidence.items()
        if name.startswith("stalled/") and count
    }
    worst = max(shares, key=lambda name: shares[name], default="")
    if worst and shares[worst] > _STALLED:
        yield (
            "zero_gradient",
            f"On {dataset}, {shares[worst]:.0%} of the gradients of {worst} are zero in most pixels: "
            "gradients are masked, and the attack cannot climb.",
        )


def _alone(name: str, dataset: str, survival: Survival, evidence: Evidence) -> Iterator[tuple[str, str]]:
    alone, count = round(evidence[f"alone/{name}"]), len(survival.labels)
    if alone >= max(_LEAST_ALONE, _ALONE * count):
        yield (
            "black_box_beats_white_box",
            f"On {dataset}, Square fools {alone} of {count} images that no gradient attack of {name} did: "
            "gradients may be masked, and stronger attacks may find more.",
        )


def _flat(name: str, attack: AutoAttack, dataset: str, evidence: Evidence) -> Iterator[tuple[str, str]]:
    images = evidence[f"probed/{name}"]
    if not images or attack.ball.eps == 0:
        return
    low, at, high = (evidence[f"{radius}/{name}"] / images for radius in RADII)
    if not (at >= low and high >= low + _RISE * abs(low)):
        yield (
            "loss_flat_in_eps",
            f"On {dataset}, the loss that an attack reaches hardly rises with eps ({low:.3g}, {at:.3g} and {high:.3g} "
            "at half, once and twice eps): gradients are masked.",
        )


def _randomised(name: str, attack: AutoAttack, dataset: str, evidence: Evidence) -> Iterator[tuple[str, str]]:
    if attack.draws == 1 and evidence[f"random/{name}"]:
        yield (
            "randomised",
            f"On {dataset}, two passes over the same image differ for {evidence[f'random/{name}']:.0f} of "
            f"{evidence[f'probed/{name}']:.0f} images: the model is random; expected version: rand.",
        )


def _fewer_stages(name: str, attack: AutoAttack, dataset: str, survival: Survival) -> Iterator[tuple[str, str]]:
    classes = len(survival.classes)
    ran = attack.programme(classes)
    if ran != attack.programme(_ENOUGH_CLASSES):
        yield (
            "fewer_stages",
            f"On {dataset}, {name} ran {', '.join(ran)}: {classes} classes are too few for the targeted DLR.",
        )


def _overstated(weaker: str, name: str, dataset: str, survival: Survival) -> Iterator[tuple[str, str]]:
    left, truly = (float(survival.survived[attack].mean()) for attack in (weaker, name))
    if left - truly > _OVERSTATED:
        yield (
            "weaker_attack_overstates",
            f"On {dataset}, {weaker} leaves {left:.1%} and {name} {truly:.1%}: {weaker} overstates robustness.",
        )
