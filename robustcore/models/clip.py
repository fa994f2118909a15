"""CLIP: an image encoder, and a text tower that turns class names into classifier rows."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from robustcore.data.images import Preprocessing
from robustcore.errors import ModelError, did_you_mean
from robustcore.models.architectures import ARCHITECTURES, BYTE_VOCABULARY, byte_tokens
from robustcore.models.encoder import Encoder
from robustcore.models.huggingface import (
    is_transformers_folder,
    open_clip_config,
    open_clip_tensors,
    preprocess_config,
)
from robustcore.models.lean import lean
from robustcore.models.lora import Lora
from robustcore.models.openclip import open_clip
from robustcore.models.text import TextTower
from robustcore.models.weights import SHIPPED, Description, describe, load_into, load_visual, read_tensors, shipped
from robustcore.types import STRICT, Flag, Weights

PLAIN_MEAN = PLAIN_STD = (0.5, 0.5, 0.5)


@plain_dataclass
class LoadedClip:
    """A CLIP taken apart into what the loops use."""

    encoder: Encoder
    model: nn.Module  # the whole open_clip model; ``encoder.visual`` is its ``visual``
    config: dict[str, Any]  # open_clip's model_cfg, with the activation as built
    tokenize: Callable[[list[str]], Tensor]
    scale: float
    preprocessing: Preprocessing

    @cached_property
    def text(self) -> TextTower:
        """The text side, which knows how to make classifier rows."""
        return TextTower(self.model, self.tokenize, self.scale)

    def to(self, device: torch.device) -> None:
        """Both towers move."""
        self.model.to(device)
        self.encoder.to(device)

    @torch.no_grad()
    def classifier_rows(self, classes: Sequence[str], prompts: Sequence[str]) -> Tensor:
        """(C, D), unit norm: see ``TextTower.rows``."""
        return self.text.rows(classes, prompts)


@dataclass(frozen=True, config=STRICT)
class ClipLora(Lora):
    """LoRA on the image tower, or on both towers: then losses that read text train the text tower along."""

    towers: Literal["vision", "both"] = "vision"


@dataclass(frozen=True, config=STRICT)
class Clip:
    """Which CLIP: an architecture of open_clip or of ``ARCHITECTURES``, and where its weights come from.

    ``weights``: a tag of open_clip (``openai``, ``laion2b_s34b_b79k``), ``digits`` (shipped), a local checkpoint, or
    a Hugging Face folder; None starts from random weights. Files of our own and folders know their architecture.
    ``quick_gelu`` overrides what tag, folder or architecture say; a bare checkpoint of OpenAI's weights needs it.
    ``visual`` is a checkpoint whose image tower takes the place of that of ``weights``, which keeps the text tower:
    the robust encoders of FARE and TeCoA are published so, an image tower alone.
    """

    architecture: str | None = None
    weights: Weights | None = None
    visual: Weights | None = None
    quick_gelu: Flag | None = None
    lora: ClipLora | None = None  # None trains every weight of the image tower
    kind: Literal["clip"] = "clip"

    def load(self) -> LoadedClip:
        """The model on the CPU in float32; raises ModelError for anything that is not there or does not fit."""
        self._check_visual()
        loaded = self._whole()
        if self.visual is not None:
            load_visual(loaded.model, Path(self.visual))
        return loaded

    def _whole(self) -> LoadedClip:
        source = self._file()
        if source is not None and source.is_dir():
            return self._from_folder(source)
        description = describe(source) if source is not None else None
        if description is not None:
            self._must_be(description)
            config, mean, std = description.config, description.mean, description.std
        elif self.architecture in ARCHITECTURES:
            config, mean, std = ARCHITECTURES[self.architecture], PLAIN_MEAN, PLAIN_STD
        else:
            return self._from_open_clip(source)
        model, config = _build(config, self.quick_gelu)
        if source is not None:
            load_into(model, read_tensors(source), source)
        elif self.weights is not None:
            raise ModelError(
                f"no such weights: '{self.weights}'; expected a file{did_you_mean(self.weights, SHIPPED)}",
                "weights",
            )
        return _taken_apart(model, config, mean, std)

    def check(self) -> None:
        """Raises what ``load`` would, but downloads nothing: a tag is only looked up in open_clip's list."""
        self._check_visual()
        if self.needs_download():
            self._known_tag(self._known_architecture())
            return
        loaded = self.load()
        if self.lora is not None:
            self.lora.attach(loaded.encoder.visual, 0)
            if self.lora.towers == "both":
                loaded.text.attach(self.lora, 0)

    def needs_download(self) -> bool:
        """Whether the weights are a tag of open_clip, which a hub serves."""
        return self._file() is None and self.architecture not in ARCHITECTURES and self.weights is not None

    def _check_visual(self) -> None:
        if self.visual is not None and not Path(self.visual).is_file():
            raise ModelError(f"no such checkpoint of an image tower: '{self.visual}'", "visual")

    def _file(self) -> Path | None:
        if self.weights in SHIPPED:
            return shipped(self.weights)
        path = Path(self.weights) if self.weights else None
        return path if path is not None and path.exists() else None

    def _must_be(self, description: Description) -> None:
        if self.architecture not in (None, description.architecture):
            raise ModelError(
                f"the weights '{self.weights}' are of the architecture '{description.architecture}', "
                f"expected '{self.architecture}'",
                "architecture",
            )

    def _from_folder(self, folder: Path) -> LoadedClip:
        if is_transformers_folder(folder):
            model, config = _build(open_clip_config(folder), self.quick_gelu)
            open_clip.model.set_model_preprocess_cfg(model, preprocess_config(folder))
            path = _one_checkpoint(folder)
            try:
                load_into(model, open_clip_tensors(read_tensors(path)), path)
            except KeyError as error:
                raise ModelError(f"{path} has no tensor {error}, expected a whole CLIPModel", "weights") from None
            return _taken_apart(model, config, *_normaliser(model))
        return self._created(f"local-dir:{folder}", None, str(folder))

    def _from_open_clip(self, source: Path | None) -> LoadedClip:
        name = self._known_architecture()
        if source is None and self.weights is not None:
            self._known_tag(name)
            return self._created(name, self.weights, f"weights '{self.weights}' of {name}")
        loaded = self._created(name, None, name)
        if source is not None:
            load_into(loaded.model, read_tensors(source), source)
            return _taken_apart(loaded.model, loaded.config, *_normaliser(loaded.model), loaded.tokenize)
        return loaded

    def _known_tag(self, name: str) -> None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if self.weights is not None and self.weights not in tags:
            near = did_you_mean(self.weights, tags)
            raise ModelError(f"unknown weights '{self.weights}' for {name}: neither a file nor a tag{near}", "weights")

    def _known_architecture(self) -> str:
        known = [*ARCHITECTURES, *open_clip.list_models()]
        if self.architecture is None:
            if self._file():
                raise ModelError(f"the weights '{self.weights}' do not say their architecture; name it", "architecture")
            near = did_you_mean(self.weights or "", SHIPPED)
            expected = "a file or folder, or a tag together with an architecture"
            raise ModelError(f"no such weights: {self.weights!r}; expected {expected}{near}", "weights")
        if self.architecture not in known:
            raise ModelError(
                f"unknown architecture '{self.architecture}'{did_you_mean(self.architecture, known)}",
                "architecture",
            )
        return self.architecture

    def _created(self, name: str, tag: str | None, what: str) -> LoadedClip:
        known = {} if ":" in name else open_clip.get_model_config(name) or {}  # a folder says of itself what is wrong
        if known.get("text_cfg", {}).get("hf_model_name"):
            raise ModelError(
                f"{name} has a text tower of transformers, expected one of open_clip's own", "architecture"
            )
        quick_gelu = self.quick_gelu
        if quick_gelu is None and tag is not None:
            # The tag knows the activation it was trained with; the bare architecture name does not.
            quick_gelu = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = open_clip.create_model(
                    name,
                    pretrained=tag,
                    force_quick_gelu=bool(quick_gelu),
                    pretrained_text=False,
                    weights_only=True,
                    **({} if quick_gelu is None else {"quick_gelu": quick_gelu}),  # there is no forcing it off
                )
        except Exception as error:  # hub clients, torch and open_clip each raise their own kinds
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"cannot load {what} ({reason}); give a local file or folder instead", "weights") from None
        return _taken_apart(model, _config(name, quick_gelu), *_normaliser(model), _tokenizer(name, model))


def _build(config: dict[str, Any], quick_gelu: bool | None) -> tuple[nn.Module, dict[str, Any]]:
    config = config if quick_gelu is None else config | {"quick_gelu": quick_gelu}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = open_clip.CLIP(**json.loads(json.dumps(config)))  # which keeps what it is given
    return model, config


def _config(name: str, quick_gelu: bool | None) -> dict[str, Any]:
    """open_clip's model_cfg of an architecture or of ``local-dir:FOLDER``."""
    _, is_folder, folder = name.partition("local-dir:")
    if is_folder:
        config: dict[str, Any] = json.loads((Path(folder) / "open_clip_config.json").read_text())["model_cfg"]
    else:
        config = open_clip.get_model_config(name)
    return config if quick_gelu is None else config | {"quick_gelu": quick_gelu}


def _taken_apart(
    model: nn.Module,
    config: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    tokenizer: Callable[[list[str]], Tensor] | None = None,
) -> LoadedClip:
    visual = model.visual
    assert isinstance(visual, nn.Module)
    size: Any = visual.image_size
    shape = getattr(visual, "preprocess_cfg", {})
    preprocessing = Preprocessing(
        size=size if isinstance(size, int) else size[0],
        resize="squash" if shape.get("resize_mode") == "squash" else "shortest",
        interpolation="bilinear" if shape.get("interpolation") == "bilinear" else "bicubic",
    )
    scale: Any = model.logit_scale
    model.eval()
    return LoadedClip(
        Encoder(lean(visual), mean, std),
        model,
        config,
        tokenizer or _tokenizer("ViT-B-32", model),
        scale.exp().item(),
        preprocessing,
    )


def _tokenizer(name: str, model: nn.Module) -> Callable[[list[str]], Tensor]:
    context: Any = getattr(model, "context_length", 77)
    if getattr(model, "vocab_size", None) == BYTE_VOCABULARY:
        return lambda texts: byte_tokens(texts, context)
    tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(name, context_length=context)
    return tokenizer


def _normaliser(model: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    shape: Any = getattr(model.visual, "preprocess_cfg", {})
    return shape.get("mean", open_clip.OPENAI_DATASET_MEAN), shape.get("std", open_clip.OPENAI_DATASET_STD)


def _one_checkpoint(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return folder / name
    raise ModelError(f"{folder} holds no model.safetensors", "weights")
