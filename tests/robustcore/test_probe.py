"""The linear probe against scikit-learn's, and its cache."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import robustcore.evaluation.probe as module
from robustcore.data import Digits
from robustcore.errors import InputError
from robustcore.evaluation.probe import cached_probe, fit_probe
from robustcore.losses import Probe

CPU = torch.device("cpu")


def blobs(count: int = 300, width: int = 8, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes whose features differ in place and size by orders of magnitude."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=count)
    features = generator.normal(size=(classes, width))[labels] + 1.5 * generator.normal(size=(count, width))
    scaled = features * np.logspace(-3, 3, width) + np.linspace(-50, 50, width)
    return scaled.astype(np.float32), labels


def shares(probe: Probe, embeddings: np.ndarray) -> np.ndarray:
    """Probabilities, from the probe's own weights in float64: only the fit is compared."""
    logits = torch.from_numpy(embeddings).double() @ probe.weight.double().T + probe.bias.double()
    return logits.softmax(dim=1).numpy()


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_probabilities_are_those_of_scikit_learn_with_the_same_regularisation(l2: float, classes: int) -> None:
    embeddings, labels = blobs(classes=classes)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000))
    if classes > 2:
        expected = theirs.fit(embeddings.astype(np.float64), labels).predict_proba(embeddings.astype(np.float64))
    else:  # its two-class form has one row of weights w; two rows +-w/2 are penalised half as much as w
        theirs[-1].set_params(C=2 / (l2 * len(labels)))
        expected = theirs.fit(embeddings.astype(np.float64), labels).predict_proba(embeddings.astype(np.float64))
    np.testing.assert_allclose(shares(fit_probe(embeddings, labels, classes, CPU, l2), embeddings), expected, atol=1e-3)


def test_it_is_right_on_digits_it_has_not_seen() -> None:
    def pixels(split: Any) -> tuple[np.ndarray, np.ndarray]:
        images = Digits(split).open()
        decoded = [np.asarray(images.decode(index))[..., 0].ravel() for index in range(len(images.labels))]
        return np.stack(decoded).astype(np.float32) / 255, images.labels

    probe = fit_probe(*pixels("train"), 10, CPU)
    embeddings, labels = pixels("test")
    assert (probe(torch.from_numpy(embeddings)).argmax(dim=1).numpy() == labels).mean() > 0.94


def test_the_fit_is_a_minimum_of_the_value_it_is_documented_to_minimise() -> None:
    embeddings, labels = blobs()
    probe = fit_probe(embeddings, labels, 4, CPU, 1e-2)
    mean, std = embeddings.astype(np.float64).mean(axis=0), embeddings.astype(np.float64).std(axis=0)
    standardised, target = torch.from_numpy((embeddings - mean) / std), torch.from_numpy(labels)
    weight = (probe.weight.double() * torch.from_numpy(std)).requires_grad_()
    bias = (probe.bias.double() + probe.weight.double() @ torch.from_numpy(mean)).requires_grad_()
    value = torch.nn.functional.cross_entropy(standardised @ weight.T + bias, target) + 1e-2 / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(value, [weight, bias]):
        assert gradient.abs().max() < 1e-4


def test_the_fit_does_not_depend_on_the_chunks_and_repeats_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = blobs()
    whole, again = (fit_probe(embeddings, labels, 4, CPU) for _ in range(2))
    assert torch.equal(whole.weight, again.weight)
    assert torch.equal(whole.bias, again.bias)
    monkeypatch.setattr(module, "_CHUNK", 7 * embeddings.shape[1] * 8)
    np.testing.assert_allclose(
        shares(fit_probe(embeddings, labels, 4, CPU), embeddings), shares(whole, embeddings), atol=1e-6
    )


@pytest.mark.parametrize("constant", [0.0, 1e-30, 0.1, 3e7])
def test_a_feature_that_is_always_the_same_counts_for_nothing(constant: float) -> None:
    embeddings, labels = blobs()
    with_one = np.insert(embeddings, 2, constant, axis=1)
    probe = fit_probe(with_one, labels, 4, CPU)
    assert probe.weight[:, 2].abs().max() < 1e-6
    np.testing.assert_allclose(
        shares(probe, with_one), shares(fit_probe(embeddings, labels, 4, CPU), embeddings), atol=1e-5
    )


def test_a_class_without_images_is_never_the_answer_and_keeps_the_fit_finite() -> None:
    embeddings, labels = blobs(classes=3)
    probe = fit_probe(embeddings, labels, 5, CPU)
    assert probe.num_classes == 5
    assert probe.weight.isfinite().all()
    assert probe.bias.isfinite().all()
    assert shares(probe, embeddings)[:, 3:].max() < 1e-3


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(broken: float) -> None:
    embeddings, labels = blobs()
    embeddings[17, 3] = broken
    with pytest.raises(InputError, match="not finite"):
        fit_probe(embeddings, labels, 4, CPU)


def test_a_mapped_file_is_read_as_it_is(tmp_path: Path) -> None:
    embeddings, labels = blobs()
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    assert torch.equal(fit_probe(mapped, labels, 4, CPU).weight, fit_probe(embeddings, labels, 4, CPU).weight)


class Counted:
    """``fit_probe``, counting how often it is asked."""

    def __init__(self) -> None:
        self.fits = 0

    def __call__(self, *arguments: Any) -> Probe:
        self.fits += 1
        return fit_probe(*arguments)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(module, "fit_probe", counted)
    return counted


def test_the_cache_fits_once_whoever_asks_and_gives_the_same_probe(counted: Counted, tmp_path: Path) -> None:
    embeddings, labels = blobs()
    found: list[Probe] = []
    arguments = (embeddings, labels, 4, CPU, tmp_path / "new", "phi0")
    threads = [threading.Thread(target=lambda: found.append(cached_probe(*arguments))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.fits == 1
    direct = fit_probe(embeddings, labels, 4, CPU)
    assert len(found) == 4
    assert all(torch.equal(probe.weight, direct.weight) and torch.equal(probe.bias, direct.bias) for probe in found)


@pytest.mark.parametrize("changed", ["key", "labels", "classes", "l2"])
def test_the_cache_fits_anew_for_other_embeddings_labels_classes_or_regularisation(
    changed: str, counted: Counted, tmp_path: Path
) -> None:
    embeddings, labels = blobs()
    cached_probe(embeddings, labels, 4, CPU, tmp_path, "phi0", 1e-3)
    cached_probe(
        embeddings,
        (labels + 1) % 4 if changed == "labels" else labels,
        5 if changed == "classes" else 4,
        CPU,
        tmp_path,
        "phi1" if changed == "key" else "phi0",
        1e-2 if changed == "l2" else 1e-3,
    )
    assert counted.fits == 2
