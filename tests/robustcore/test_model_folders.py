"""Hugging Face folders and open_clip's tags: the model of the same numbers, QuickGELU as source or recipe says."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from robustcore.data import Preprocessing
from robustcore.models import Clip
from robustcore.models.architectures import byte_tokens
from robustcore.models.weights import Description, save_model
from tests.robustcore.towers import IMAGES, OPENAI, TINY, built, embedded, open_clip_folder, seen, transformers_folder


def rows(classifier: Any) -> Tensor:
    found: Tensor = classifier.classifier_rows(("one", "two"), ("a photo of a {}.", "the {}"))
    return found


def text_rows(model: Any) -> Tensor:
    """The prompt ensemble worked out on the model itself."""
    with torch.no_grad():
        ensembles = [
            torch.stack(
                [model.encode_text(byte_tokens([text], 48))[0] for text in (f"a photo of a {name}.", f"the {name}")]
            )
            for name in ("one", "two")
        ]
    unit = [torch.nn.functional.normalize(ensemble, dim=1).mean(dim=0) for ensemble in ensembles]
    return torch.nn.functional.normalize(torch.stack(unit), dim=1)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_transformers_folder_is_the_open_clip_model_of_the_same_numbers(activation: str, tmp_path: Path) -> None:
    model = built(quick_gelu=activation == "quick_gelu")
    loaded = Clip(weights=str(transformers_folder(tmp_path / "hf", model, activation))).load()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(IMAGES), embedded(model, *OPENAI))
    torch.testing.assert_close(rows(loaded), text_rows(model))
    assert loaded.scale == pytest.approx(model.logit_scale.exp().item())  # type: ignore[operator]  # a parameter


@pytest.mark.parametrize("quick", [True, False])
def test_an_open_clip_folder_is_its_model_with_its_own_normaliser_and_resizing(quick: bool, tmp_path: Path) -> None:
    model = built(quick_gelu=quick)
    loaded = Clip(weights=str(open_clip_folder(tmp_path / "oc", model, quick_gelu=quick))).load()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(IMAGES), embedded(model, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    torch.testing.assert_close(rows(loaded), text_rows(model))
    assert loaded.preprocessing == Preprocessing(16, "squash", "bilinear")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("wanted", [True, False, None])
@pytest.mark.parametrize("layout", ["transformers", "open_clip", "own file", "architecture"])
def test_quick_gelu_of_the_recipe_overrides_what_the_source_says(
    layout: str, wanted: bool | None, said: bool, tmp_path: Path
) -> None:
    quick = said if wanted is None else wanted
    model, mean, std = built(quick_gelu=quick), *OPENAI
    if layout == "transformers":
        folder = transformers_folder(tmp_path / "hf", model, "quick_gelu" if said else "gelu")
        source = Clip(weights=str(folder), quick_gelu=wanted)
    elif layout == "open_clip":
        folder = open_clip_folder(tmp_path / "oc", model, quick_gelu=said)
        source = Clip(weights=str(folder), quick_gelu=wanted)
        mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    elif layout == "own file":
        save_model(
            tmp_path / "own.safetensors", model, Description("tiny-clip-16", TINY | {"quick_gelu": said}, mean, std)
        )
        source = Clip(weights=str(tmp_path / "own.safetensors"), quick_gelu=wanted)
    else:
        torch.save(model.state_dict(), tmp_path / "bare.pt")
        source = Clip("tested-quickgelu" if said else "tested", str(tmp_path / "bare.pt"), quick_gelu=wanted)
    torch.testing.assert_close(seen(source), embedded(model, mean, std))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny architectures in open_clip's own list: as ViT-B-32 and ViT-B-32-quickgelu are."""
    folder = tmp_path_factory.mktemp("architectures")
    for name, quick in (("tested", False), ("tested-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps(TINY | {"quick_gelu": quick}))
    open_clip.add_model_config(folder)
    return folder


@pytest.mark.parametrize(("name", "trained_with"), [("tested", True), ("tested", False), ("tested-quickgelu", True)])
def test_a_tag_brings_the_activation_it_was_trained_with(
    name: str, trained_with: bool, registered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-B-32 with the tag openai is QuickGELU although the architecture's name does not say so."""
    model = built(quick_gelu=trained_with)
    path = registered / "tagged.pt"
    torch.save(model.state_dict(), path)
    tag = {"file": str(path), "quick_gelu": trained_with}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"tag": tag})
    torch.testing.assert_close(seen(Clip(name, "tag")), embedded(model, *OPENAI))


def test_the_tag_of_openai_says_quick_gelu_for_the_bare_architecture() -> None:
    assert open_clip.get_pretrained_cfg("ViT-B-32", "openai")["quick_gelu"] is True
    assert Clip("ViT-B-32", "openai").needs_download()
    Clip("ViT-B-32", "openai").check()


def test_quick_gelu_changes_the_embeddings() -> None:
    assert not torch.allclose(embedded(built(quick_gelu=True)), embedded(built(quick_gelu=False)), atol=1e-3)
