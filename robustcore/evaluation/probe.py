"""The linear probe: a classifier fitted once on frozen embeddings, then never changed, through which attacks go."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustcore.errors import InputError
from robustcore.losses.classifiers import Probe
from robustcore.once import computed_once

L2 = 1e-3
_CHUNK = 128 * 2**20  # bytes of features on the device at a time
_MAX_ITERATIONS = 1000


def fit_probe(
    embeddings: np.ndarray, labels: np.ndarray, num_classes: int, device: torch.device, l2: float = L2
) -> Probe:
    """L2-regularised multinomial logistic regression on ``embeddings`` (N, D) and ``labels`` (N,) in [0, num_classes).

    Minimises ``mean CE + l2 / 2 * ||W||^2`` over weights W of standardised features and a free bias, which is
    scikit-learn's LogisticRegression(C=1 / (l2 * N)) after a StandardScaler; the standardisation is folded into the
    weight (C, D) and bias (C,), float32 on ``device``. The problem is convex: L-BFGS from zero, over all of the data
    in chunks, in float64 (features and products in float32 on a GPU). Raises InputError on embeddings that are not
    finite.
    """
    fit = _Fit(embeddings, labels, num_classes, device, l2)
    weight = fit.solve()
    inner, bias = weight[:, :-1] / fit.std, weight[:, -1]
    return Probe(inner.float(), (bias - inner @ fit.mean).float())


def cached_probe(
    embeddings: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    device: torch.device,
    folder: Path,
    key: str,
    l2: float = L2,
    shared: str = "",
) -> Probe:
    """As ``fit_probe``, once for all who name the same folder. ``key`` identifies the embeddings (model, data, size).

    Whoever comes first fits it; the others, on the same machine, wait on a lock and read its file. For ``shared`` see
    ``computed_once``.
    """
    answers = hashlib.sha256(np.ascontiguousarray(labels, np.int64).tobytes()).hexdigest()

    def compute(path: Path) -> None:
        probe = fit_probe(embeddings, labels, num_classes, device, l2)
        save_file({"weight": probe.weight.cpu(), "bias": probe.bias.cpu()}, path)

    path = computed_once(folder, [key, answers, list(embeddings.shape), num_classes, l2], ".probe", compute, shared)
    tensors = load_file(path)
    return Probe(tensors["weight"].to(device), tensors["bias"].to(device))


class _Fit:
    """The convex problem in standardised features. Its variable is (C, D + 1), the bias being the last column."""

    def __init__(
        self, embeddings: np.ndarray, labels: np.ndarray, num_classes: int, device: torch.device, l2: float
    ) -> None:
        assert len(embeddings) == len(labels) > 0, "one label an embedding"
        self._embeddings, self._device, self._l2 = embeddings, device, l2
        self._labels = torch.as_tensor(np.asarray(labels), dtype=torch.int64, device=device)
        self._precision = torch.float64 if device.type == "cpu" else torch.float32
        self._rows = max(1, _CHUNK // (embeddings.shape[1] * self._precision.itemsize))
        self._variable = torch.zeros(num_classes, embeddings.shape[1] + 1, dtype=torch.float64, device=device)
        self.mean, self.std = self._standardisation()

    def _standardisation(self) -> tuple[Tensor, Tensor]:
        count = len(self._embeddings)
        mean = sum((chunk.double().sum(dim=0) for _, chunk in self._chunks()), torch.zeros(1, device=self._device))
        mean = mean / count
        squares = ((chunk.double() - mean).square().sum(dim=0) for _, chunk in self._chunks())
        std = (sum(squares, torch.zeros_like(mean)) / count).sqrt()
        if not torch.isfinite(std).all():
            raise InputError("the embeddings that the probe is to be fitted on are not finite", "weights")
        constant = std <= 1e-6 * mean.abs()  # to the rounding of float32: it tells nothing, and must not be blown up
        return mean, torch.where(constant, torch.ones_like(std), std)

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Labels (n,) and features (n, D), chunk after chunk."""
        for start in range(0, len(self._embeddings), self._rows):
            rows = slice(start, start + self._rows)
            features = torch.from_numpy(np.array(self._embeddings[rows]))  # a copy: the mapped file is read-only
            yield self._labels[rows], features.to(self._device, self._precision)

    @torch.no_grad()
    def solve(self) -> Tensor:
        """The minimum."""
        solver = torch.optim.LBFGS(
            [self._variable],
            max_iter=_MAX_ITERATIONS,
            max_eval=2 * _MAX_ITERATIONS,
            tolerance_grad=1e-8,
            tolerance_change=1e-12,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        solver.step(self._objective)
        return self._variable

    def _objective(self) -> float:
        """The value at the variable; its gradient, in closed form, goes where the solver looks for it."""
        variable, count = self._variable, len(self._embeddings)
        weight, bias = variable[:, :-1], variable[:, -1]
        gradient, value = torch.zeros_like(variable), torch.zeros((), dtype=torch.float64, device=self._device)
        mean, std = self.mean.to(self._precision), self.std.to(self._precision)
        for labels, chunk in self._chunks():
            features = (chunk - mean) / std
            logits = F.linear(features, weight.to(self._precision)).double() + bias
            shares = logits.log_softmax(dim=1)
            value += F.nll_loss(shares, labels, reduction="sum")
            excess = shares.exp()
            excess[torch.arange(len(labels), device=self._device), labels] -= 1
            gradient[:, :-1] += (excess.to(self._precision).T @ features).double()
            gradient[:, -1] += excess.sum(dim=0)
        gradient /= count
        gradient[:, :-1] += self._l2 * weight
        variable.grad = gradient
        return float(value / count + self._l2 / 2 * weight.square().sum())
