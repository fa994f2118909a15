"""An export gives the trained encoder's own embeddings in the library it is for, or is refused in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustcore.data import Preprocessing
from robustcore.errors import InputError, ModelError
from robustcore.export import FORMATS, Format, export
from robustcore.export.merge import plain_model
from robustcore.models import Clip, Loaded, LoadedClip
from robustcore.models.huggingface import (
    open_clip_config,
    open_clip_tensors,
    transformers_config,
    transformers_tensors,
)
from robustcore.models.lora import adapter
from tests.robustcore.exports import EXPRESSIBLE, INEXPRESSIBLE, SEEN_BY, TRAINED, Seen
from tests.robustcore.lora_towers import TOKENS
from tests.robustcore.towers import TINY, built

TOLERANCE = {"rtol": 0.0, "atol": 1e-4}
PAIRS = [(name, to) for to, names in EXPRESSIBLE.items() for name in names]
REFUSED = [(name, to) for to, names in INEXPRESSIBLE.items() for name in names]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Loaded, Loaded]]:
    """By name: the encoder as its training left it, and the plain model that is exported."""
    models = {}
    for name, train in TRAINED.items():
        recipe, loaded = train(tmp_path_factory.mktemp("weights"))
        models[name] = loaded, plain_model(recipe, loaded)
    return models


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory) -> dict[tuple[str, Format], Path]:  # type: ignore[no-untyped-def]
    """Every export there can be."""
    made = {}
    for name, to in PAIRS:
        made[name, to] = tmp_path_factory.mktemp("exports") / "new" / to
        export(trained[name][1], to, made[name, to], lambda folder: None)
    return made


@pytest.fixture(scope="module")
def seen(folders: dict[tuple[str, Format], Path]) -> dict[tuple[str, Format], Seen]:
    return {(name, to): SEEN_BY[to](folder) for (name, to), folder in folders.items()}


def pixels_for(loaded: Loaded, count: int) -> Tensor:
    size = loaded.preprocessing.size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("name", "to"), PAIRS)
@torch.no_grad()
def test_the_other_library_gives_the_embeddings_of_the_trained_encoder(name, to, count, trained, seen):
    pixels = pixels_for(trained[name][0], count)
    expected = trained[name][0].encoder(pixels)
    assert expected.std() > 1e-2, "nothing is compared"
    torch.testing.assert_close(seen[name, to].embed(pixels), expected, **TOLERANCE)


@pytest.mark.parametrize(("name", "to"), [pair for pair in PAIRS if pair[1] in ("open_clip", "hf")])
@torch.no_grad()
def test_the_other_library_gives_the_texts_of_the_trained_text_tower(name, to, trained, seen):
    expected = trained[name][0].model.encode_text(TOKENS)
    torch.testing.assert_close(seen[name, to].embed_text(TOKENS), expected, **TOLERANCE)


@pytest.mark.parametrize("name", ["digits", "quickgelu", "lora"])
@pytest.mark.parametrize("to", ["open_clip", "hf"])
@torch.no_grad()
def test_an_export_is_a_model_for_a_recipe_again(name, to, trained, folders):
    before, again = trained[name][1], Clip(weights=str(folders[name, to])).load()
    pixels = pixels_for(before, 3)
    torch.testing.assert_close(again.encoder(pixels), before.encoder(pixels))
    words = ("one", "two"), ("a photo of a {}.",)
    torch.testing.assert_close(again.classifier_rows(*words), before.classifier_rows(*words))
    assert again.scale == pytest.approx(before.scale)
    assert again.preprocessing == before.preprocessing


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("to", ["open_clip", "hf", "timm"])
@torch.no_grad()
def test_the_other_library_prepares_pictures_alike(to, interpolation, resize, trained, tmp_path):
    loaded = trained["digits"][1]
    before, loaded.preprocessing = loaded.preprocessing, Preprocessing(16, resize, interpolation)
    export(loaded, to, tmp_path / "out", lambda folder: None)
    seen = SEEN_BY[to](tmp_path / "out")
    for image in (picture(48, 32), picture(40, 40), picture(16, 16)):
        expected = torch.from_numpy(np.array(loaded.preprocessing(image))).permute(2, 0, 1) / 255
        normalised = (expected - loaded.encoder.mean) / loaded.encoder.std
        # transformers resizes tensors, which rounds otherwise than Pillow: by one of 255 steps.
        atol = 1.01 / 255 / 0.5 if to == "hf" else 1e-6
        torch.testing.assert_close(seen.prepare(image), normalised, rtol=0, atol=atol)
    if to != "timm":
        assert Clip(weights=str(tmp_path / "out")).load().preprocessing == loaded.preprocessing
    loaded.preprocessing = before


@pytest.mark.parametrize(("name", "to"), REFUSED)
def test_what_a_format_cannot_express_is_refused_and_nothing_is_left(name, to, trained, tmp_path):
    with pytest.raises(ModelError, match=r"^[^\n]*(expected|it has)[^\n]*$"):
        export(trained[name][1], to, tmp_path / "out", lambda folder: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_with_something_in_it_is_left_alone(to, trained, tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="there already"):
        export(trained["digits"][1], to, tmp_path, lambda folder: None)
    with pytest.raises(InputError, match="there already"):
        export(trained["digits"][1], to, tmp_path / "precious", lambda folder: None)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_an_empty_folder_is_filled_at_once(trained, tmp_path):
    unfinished = []
    export(trained["digits"][1], "timm", tmp_path, lambda folder: unfinished.append(folder))
    assert not unfinished[0].exists()
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_merging_leaves_the_trained_model_adapted(trained):
    adapted, plain = trained["lora"]
    assert isinstance(adapted, LoadedClip)
    assert isinstance(plain, LoadedClip)
    assert adapter(adapted.model)
    assert not adapter(plain.model)
    assert plain.model.state_dict().keys() == Clip(weights="digits").load().model.state_dict().keys()


def test_names_and_settings_of_transformers_are_inverse_to_those_of_open_clip(tmp_path):
    tensors = built().state_dict()
    back = open_clip_tensors(transformers_tensors(tensors))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    for quick in (True, False):
        (tmp_path / "config.json").write_text(json.dumps(transformers_config(TINY | {"quick_gelu": quick})))
        again = open_clip_config(tmp_path)
        for part in ("vision_cfg", "text_cfg"):
            assert TINY[part].items() <= again[part].items()
        assert (again["embed_dim"], again["quick_gelu"]) == (TINY["embed_dim"], quick)
