"""AutoAttack on a whole image set: rows of a batch are images, and each is replaced the moment it is done.

An image leaves as soon as any point that an attack looks at is classified wrong; the next one takes its row. What
happens to an image depends on its own numbers alone, not on the batch, the order, or who attacks the others.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcore.attacks import AutoAttack
from robustcore.attacks.apgd import Ascent
from robustcore.attacks.autoattack import TARGETED, Stage
from robustcore.attacks.climb import slope
from robustcore.attacks.fab import Boundary
from robustcore.attacks.rows import Look, Rows, Search
from robustcore.attacks.square import Squares
from robustcore.losses import Classifier, worst_targets
from robustcore.losses.dlr import dlr_of, lead, margin, targeted_dlr_of
from robustcore.models import Encoder
from robustcore.noise import Noise
from robustcore.precision import autocast, without_weight_gradients
from robustcore.stalls import ZeroGradients
from robustcore.types import Images, Labels, Logits, PerImage

_LEAST_ROWS = 8  # matrix products of fewer rows take other paths, and sum in another order
_TURNS = 5
_THREADS = 4
_CACHED_ROWS = 128  # of a batch on a CPU: more of them leave its cache, even those of a small encoder


@dataclass(frozen=True)
class Victim:
    """N images that are right as they stand, and what classifies them."""

    encoder: Encoder
    classifier: Classifier
    labels: Labels  # (N,)
    images: Callable[[Tensor], Images]  # the pixels at some of the N places, (b,) int64 on the CPU
    noise: Noise  # N keys
    precision: torch.dtype = torch.float32  # of an attack's forward passes; it is judged in float32

    def logits(self, pixels: Images, precision: torch.dtype = torch.float32) -> Logits:
        """(B, C) in float32, whatever precision the encoder runs in."""
        rows = torch.arange(max(len(pixels), _LEAST_ROWS), device=pixels.device) % len(pixels)
        padded = pixels if len(rows) == len(pixels) else pixels[rows]
        with autocast(pixels.device, precision):
            embeddings = self.encoder(padded)
        return self.classifier(embeddings)[: len(pixels)]


@dataclass(frozen=True)
class Verdict:
    """By image, the number of the stage that fooled it, (N,) int64 on the CPU; -1 where none did."""

    stages: tuple[Stage, ...]
    fooled_in: Tensor
    gradients: dict[Stage, ZeroGradients]  # of each stage: how many of them were zero

    @property
    def survived(self) -> Tensor:
        """(N,) bool."""
        return self.fooled_in < 0

    def fooled_by(self) -> dict[str, int]:
        """How many images each stage fooled, of those that the stages before it had left."""
        return {stage: int((self.fooled_in == number).sum()) for number, stage in enumerate(self.stages)}


def withstand(attack: AutoAttack, victim: Victim, batch_size: int) -> Verdict:
    """Attack all of the victim's images, ``batch_size`` rows at a time.

    Raises InputError where there are too few classes for a stage that was asked for.
    """
    attack.check_classes(victim.classifier.num_classes)
    victim = replace(victim, images=_one_by_one(victim.images))
    stages = attack.programme(victim.classifier.num_classes)
    fooled_in = torch.full((len(victim.labels),), -1)
    watches = {stage: ZeroGradients() for stage in stages}
    with without_weight_gradients(victim.encoder):
        rivals = _rivals(victim, min(attack.targets, victim.classifier.num_classes - 1), batch_size)
        for number, stage in enumerate(stages):
            left = (fooled_in < 0).nonzero().squeeze(1)

            def fooled(some: Tensor, number: int = number, stage: Stage = stage) -> Tensor:
                return some[_Assault(attack, number, stage, victim, some, rivals, watches[stage]).fooled(batch_size)]

            for places in _side_by_side(fooled, left, victim.labels.device):
                fooled_in[places] = number
    return Verdict(stages, fooled_in, watches)


def _side_by_side(work: Callable[[Tensor], Tensor], places: Tensor, device: torch.device) -> list[Tensor]:
    """What ``work`` makes of the places; on a CPU they are dealt out to a few threads, each with a share of the cores.

    Two cores in one small matrix product wait for each other, and for whoever else uses them; in two of them they do
    not. A GPU is filled by one thread.
    """
    cores = torch.get_num_threads() if device.type == "cpu" else 1
    threads = min(cores, _THREADS, len(places))
    if threads < 2:
        return [work(places)] if len(places) else []
    torch.set_num_threads(cores // threads)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, [places[first::threads] for first in range(threads)]))
    finally:
        torch.set_num_threads(cores)


def _one_by_one(images: Callable[[Tensor], Images]) -> Callable[[Tensor], Images]:
    """Files and caches are not made to be read by several threads."""
    lock = Lock()

    def locked(places: Tensor) -> Images:
        with lock:
            return images(places)

    return locked


@torch.no_grad()
def _rivals(victim: Victim, ranks: int, batch_size: int) -> Labels:
    """(N, ranks): the likeliest wrong classes of the images as they stand, most likely first."""
    found = []
    for start in range(0, len(victim.labels), batch_size):
        places = torch.arange(start, min(start + batch_size, len(victim.labels)))
        logits = victim.logits(victim.images(places))
        labels = victim.labels[places.to(logits.device)]
        found.append(torch.stack([worst_targets(logits, labels, rank + 1) for rank in range(ranks)], dim=1))
    return torch.cat(found) if found else victim.labels.new_zeros(0, ranks)


@dataclass
class _Row(Rows):
    """Images under attack."""

    search: Search
    place: Tensor  # (B,) in the list of images that the stage attacks
    labels: Labels
    targets: Labels
    fooled: Tensor  # (B,) bool


class _Assault:
    """One stage on the images that are left."""

    def __init__(
        self,
        attack: AutoAttack,
        number: int,
        stage: Stage,
        victim: Victim,
        left: Tensor,
        rivals: Labels,
        watch: ZeroGradients,
    ) -> None:
        self._attack, self._number, self._stage, self._victim = attack, number, stage, victim
        self._left, self._rivals, self._watch = left, rivals, watch
        self._looks = attack.looks(stage)
        self._fooled = torch.zeros(len(left), dtype=torch.bool)
        # The likeliest target of every image, then the second of every image ...: an image is attacked towards two at
        # once only where there are no others to fill the batch.
        self._waiting = torch.arange(len(left) * (rivals.shape[1] if stage in TARGETED else 1))

    def fooled(self, batch_size: int) -> Tensor:
        """(len(left),) bool."""
        on_cpu = self._victim.labels.device.type == "cpu"
        batch_size = _even(len(self._waiting), batch_size, on_cpu)
        rows = self._started(batch_size)
        # Who is done must be known before others take their rows. That takes a while: a GPU is waited for, and on a
        # CPU it is much beside a single forward pass. What comes from bf16 is checked as it comes.
        is_slow = on_cpu and self._stage != "square"
        turns = 1 if is_slow or self._victim.precision != torch.float32 else _TURNS
        while len(rows.place):
            for _ in range(turns):
                self._look(rows)
            rows = self._continuing(rows)
            self._waiting = self._waiting[~self._fooled[self._waiting % len(self._left)]]
            room = batch_size - len(rows.place)
            if room and len(self._waiting):
                rows = rows.joined(self._started(room))
        return self._fooled

    def _started(self, room: int) -> _Row:
        """The next ones that wait, in rows of their own."""
        jobs, self._waiting = self._waiting[:room], self._waiting[room:]
        places, rounds = jobs % len(self._left), jobs // len(self._left)
        victim, chosen = self._victim, self._left[places]
        images, device = victim.images(chosen), victim.labels.device
        chosen, rounds = chosen.to(device), rounds.to(device)
        labels, targets = victim.labels[chosen], self._rivals[chosen, rounds]
        noise = Noise(victim.noise.keys[chosen]).branch(self._number).branch(rounds)
        free = torch.zeros(len(jobs), dtype=torch.bool, device=device)
        return _Row(self._search(images, noise), places.to(device), labels, targets, free)

    def _search(self, images: Images, noise: Noise) -> Search:
        ball = self._attack.ball
        if self._stage == "square":
            return Squares.start(ball, images, noise)
        if self._stage == "fab_t":
            return Boundary.start(ball, images)
        return Ascent.start(ball, self._attack.steps, images, ball.sample(images, noise))

    def _continuing(self, rows: _Row) -> _Row:
        """Without those that are fooled, also through another row, and those that have looked often enough."""
        self._fooled[rows.place[rows.fooled].cpu()] = True
        over = self._fooled[rows.place.cpu()].to(rows.fooled.device) | (rows.search.step >= self._looks)
        return rows.at((~over).nonzero().squeeze(1)) if over.any() else rows

    def _look(self, rows: _Row) -> None:
        """All rows look at their points and move on."""
        search = rows.search
        points = search.points
        logits, loss, gradient = self._slope(points, rows)
        wrong = logits.argmax(dim=1) != rows.labels
        counts = wrong & (search.step < self._looks)
        if self._stage == "fab_t":  # all others stay in the ball
            counts &= self._attack.ball.norm(points - search.images).flatten() <= self._attack.ball.eps
        if self._victim.precision != torch.float32:
            counts = self._confirmed(counts, points, rows.labels)
        rows.fooled = rows.fooled | counts
        search.saw(Look(loss, gradient, wrong))

    def _slope(self, points: Images, rows: _Row) -> tuple[Logits, PerImage, Tensor | None]:
        """Logits, loss and its gradient, means over the draws of a random model."""
        draws = [self._draw(points, rows) for _ in range(self._attack.draws)]
        if len(draws) == 1:
            return draws[0]
        logits, loss, gradients = zip(*draws, strict=True)
        mean = None if gradients[0] is None else torch.stack(gradients).mean(dim=0)
        return torch.stack(logits).mean(dim=0), torch.stack(loss).mean(dim=0), mean

    def _draw(self, points: Images, rows: _Row) -> tuple[Logits, PerImage, Tensor | None]:
        precision = self._victim.precision
        if self._stage == "square":
            with torch.no_grad():
                logits = self._victim.logits(points, precision)
                return logits, margin(logits, rows.labels), None
        known: list[Logits] = []

        def loss_at(pixels: Images) -> PerImage:
            known.append(self._victim.logits(pixels, precision))
            return _LOSSES[self._stage](known[-1], rows.labels, rows.targets)

        loss, gradient = slope(self._watch.watch(loss_at), points)
        return known[-1].detach(), loss, gradient.nan_to_num(0, 0, 0)

    @torch.no_grad()
    def _confirmed(self, counts: Tensor, points: Images, labels: Labels) -> Tensor:
        """Those that are wrong in float32, too."""
        claimed = counts.nonzero().squeeze(1)
        if len(claimed):
            counts[claimed] = self._victim.logits(points[claimed]).argmax(dim=1) != labels[claimed]
        return counts


def _even(jobs: int, batch_size: int, on_cpu: bool) -> int:
    """How many rows at a time, so that few are left for the end; where memory is no matter, about as many as it says.

    What is left takes nearly as long as a whole batch.
    """
    is_free = on_cpu and batch_size >= _CACHED_ROWS
    rounds = round(jobs / _CACHED_ROWS) if is_free else math.ceil(jobs / batch_size)
    return max(1, math.ceil(jobs / max(1, rounds)))


_LOSSES: dict[Stage, Callable[[Logits, Labels, Labels], PerImage]] = {
    "apgd_ce": lambda logits, labels, _: F.cross_entropy(logits, labels, reduction="none"),
    "apgd_dlr": lambda logits, labels, _: dlr_of(logits, labels),
    "apgd_t": targeted_dlr_of,
    "fab_t": lead,
}
