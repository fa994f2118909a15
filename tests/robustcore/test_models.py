"""Encoders: pixels are normalised inside, evaluation mode is for ever, and a fingerprint knows every number."""

import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from robustcore.data import Digits, Preprocessing
from robustcore.errors import ModelError
from robustcore.models import Clip, Encoder
from robustcore.models.architectures import BYTE_VOCABULARY, byte_tokens
from robustcore.models.weights import shipped
from tests.robustcore.towers import IMAGES, TINY, open_clip_folder


def test_the_shipped_model_is_small_and_knows_its_architecture() -> None:
    assert shipped("digits").stat().st_size <= 2 * 2**20
    clip = Clip(weights="digits").load()
    assert clip.preprocessing == Preprocessing(16)
    assert clip.encoder(IMAGES).shape == (3, 64)
    assert 1 < clip.scale <= 100.0001


def test_pixels_are_normalised_inside_the_encoder() -> None:
    class Sees(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    encoder = Encoder(Sees(), (0.5, 0.25, 0), (0.5, 0.25, 1))
    black, white = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    assert encoder(black).tolist() == [[-1, -1, 0]]
    assert encoder(white).tolist() == [[1, 3, 1]]


def test_an_encoder_stays_in_evaluation_mode_with_all_of_its_parts() -> None:
    encoder = Encoder(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten()), (0.5,) * 3, (0.5,) * 3)
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(encoder(images), encoder(images))


def resnet_folder(folder: Path) -> Path:
    """A CLIP with BatchNorm, as RN50 is."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    return open_clip_folder(folder, open_clip.CLIP(**TINY | {"vision_cfg": vision}), vision_cfg=vision)


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_the_fingerprint_changes_with_any_weight_and_with_the_normaliser(kind: str, tmp_path: Path) -> None:
    model = Clip("tiny-clip-16") if kind == "transformer" else Clip(weights=str(resnet_folder(tmp_path / "rn")))
    encoder = model.load().encoder
    prints = {encoder.fingerprint()}
    assert model.load().encoder.fingerprint() in prints
    values = [*encoder.state_dict().values(), encoder.mean, encoder.std]
    for value in values:
        value.view(-1)[-1] += 1
        prints.add(encoder.fingerprint())
    assert len(prints) == len(values) + 1


def test_classifier_rows_are_ensembles_of_unit_length() -> None:
    clip = Clip(weights="digits").load()
    found = clip.classifier_rows(Digits().open().classes, ("a photo of a {}.", "a {}"))
    assert found.shape == (10, 64)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(10))
    assert not found.requires_grad


def test_text_is_read_as_bytes_with_an_end_mark_and_cut_where_it_does_not_fit() -> None:
    end = BYTE_VOCABULARY - 1
    tokens = byte_tokens(["ab", "", "é", "abcdefgh"], 5)
    assert tokens.tolist() == [[97, 98, end, 0, 0], [end, 0, 0, 0, 0], [195, 169, end, 0, 0], [97, 98, 99, 100, end]]


def test_a_text_tower_of_transformers_is_refused_with_a_sentence() -> None:
    with pytest.raises(ModelError, match="xlm-roberta-base-ViT-B-32 has a text tower of transformers") as caught:
        Clip("xlm-roberta-base-ViT-B-32").load()
    assert caught.value.key == "architecture"


def test_transformers_is_not_imported_although_it_is_there_and_can_be_afterwards() -> None:
    statements = (
        "import sys, robustcore.models; assert 'transformers' not in sys.modules; "
        "import transformers; print(transformers.CLIPVisionModelWithProjection.__name__)"
    )
    answer = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True, check=True)
    assert answer.stdout == "CLIPVisionModelWithProjection\n"
