"""Trained encoders of every kind, and exports of them as the other libraries load them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import timm
import torch
import transformers
from PIL import Image
from torch import Tensor

from robustcore.models import Clip, Loaded, LoadedClip, Model, SimClr
from robustcore.models.architectures import ARCHITECTURES
from robustcore.models.clip import ClipLora
from robustcore.models.weights import Description, save_model
from tests.robustcore.lora_towers import RESNET, stirred
from tests.robustcore.towers import OPENAI, built

TINY_TEXT = ARCHITECTURES["tiny-clip-16"]["text_cfg"]
# As ViT-B-32-quickgelu and RN50 are, but for their sizes.
QUICK = {
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 96, "head_width": 32, "patch_size": 8},
}
RN50 = {"embed_dim": 48, "vision_cfg": {"image_size": 64, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None}}
POOLED = {"vision_cfg": {**ARCHITECTURES["tiny-clip-16"]["vision_cfg"], "attentional_pool": True}}


@dataclass(frozen=True)
class Seen:
    """An export as its library loads it."""

    embed: Callable[[Tensor], Tensor]  # pixels in [0, 1]
    prepare: Callable[[Image.Image], Tensor] | None = None  # a picture to (3, size, size), normalised
    embed_text: Callable[[Tensor], Tensor] | None = None


def clip_of(folder: Path, **config: Any) -> Clip:
    """A CLIP with random numbers in every tensor, from a file of our own."""
    model, whole = built(**config), {**ARCHITECTURES["tiny-clip-16"], **config}
    save_model(folder / "own.safetensors", model, Description("tested", whole, *OPENAI))
    return Clip(weights=str(folder / "own.safetensors"))


def through_lora(model: Clip) -> tuple[Clip, LoadedClip]:
    """As if trained with LoRA on both towers."""
    lora = ClipLora(targets=("q", "v", "out", "mlp"), towers="both")
    model = replace(model, lora=lora)
    loaded = model.load()
    lora.attach(loaded.encoder.visual, 0)
    loaded.text.attach(lora, 0)
    stirred(loaded.model)
    return model, loaded


def tuned(model: Model) -> tuple[Model, Loaded]:
    """As if every weight of both towers was trained."""
    loaded = model.load()
    generator = torch.Generator().manual_seed(1)
    whole = loaded.model if isinstance(loaded, LoadedClip) else loaded.encoder
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name != "logit_scale":  # which is never trained
                parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model, loaded


TRAINED: dict[str, Callable[[Path], tuple[Model, Loaded]]] = {
    "digits": lambda folder: tuned(Clip(weights="digits")),
    "quickgelu": lambda folder: tuned(clip_of(folder, **QUICK)),
    "lora": lambda folder: through_lora(clip_of(folder, **QUICK)),
    "small resnet": lambda folder: tuned(clip_of(folder, vision_cfg=RESNET)),
    "rn50": lambda folder: tuned(clip_of(folder, **RN50)),
    "attentional pool": lambda folder: tuned(clip_of(folder, **POOLED)),
    "simclr": lambda folder: tuned(SimClr(weights="digits-simclr")),
    "simclr of imagenet": lambda folder: tuned(SimClr(architecture="resnet18", image_size=64)),
}
CLIPS = ("digits", "quickgelu", "lora", "small resnet")
VITS = ("digits", "quickgelu", "lora")

# What each format can express; onnx can express them all, but takes seconds each.
EXPRESSIBLE = {
    "open_clip": (*CLIPS, "attentional pool"),
    "hf": VITS,
    "timm": (*VITS, "rn50", "simclr of imagenet"),
    "onnx": ("lora", "small resnet"),
}
INEXPRESSIBLE = {
    "open_clip": ("simclr", "simclr of imagenet"),
    "hf": ("small resnet", "rn50", "attentional pool", "simclr", "simclr of imagenet"),
    "timm": ("small resnet", "attentional pool", "simclr"),
}


def seen_by_open_clip(folder: Path) -> Seen:
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    mean, std = (torch.tensor(getattr(model.visual, name)).reshape(3, 1, 1) for name in ("image_mean", "image_std"))
    return Seen(lambda pixels: model.encode_image((pixels - mean) / std), prepare, model.encode_text)


def seen_by_transformers(folder: Path) -> Seen:
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    vision = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
    both = transformers.CLIPModel.from_pretrained(folder)
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in (processor.image_mean, processor.image_std))

    def embed(pixels: Tensor) -> Tensor:
        normalised = (pixels - mean) / std
        embeddings: Tensor = vision(pixel_values=normalised).image_embeds
        torch.testing.assert_close(both.get_image_features(pixel_values=normalised).pooler_output, embeddings)
        return embeddings

    return Seen(
        embed,
        lambda image: processor(image, return_tensors="pt")["pixel_values"][0],
        lambda tokens: both.get_text_features(input_ids=tokens).pooler_output,
    )


def seen_by_timm(folder: Path) -> Seen:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    return Seen(lambda pixels: model((pixels - mean) / std), timm.data.create_transform(**config))


def seen_by_onnx(folder: Path) -> Seen:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def embed(pixels: Tensor) -> Tensor:
        embeddings: np.ndarray = session.run(["embeddings"], {"pixels": pixels.numpy()})[0]
        return torch.from_numpy(embeddings)

    return Seen(embed)


SEEN_BY = {"open_clip": seen_by_open_clip, "hf": seen_by_transformers, "timm": seen_by_timm, "onnx": seen_by_onnx}
