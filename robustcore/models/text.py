"""The text tower: class names and prompts to classifier rows; tuned or not, it has rows for classes it never saw."""

import hashlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustcore.errors import ModelError
from robustcore.models.lora import Lora, adapter, load_adapter

_CHUNK = 256  # texts in one forward pass


class TextTower:
    """The text side of an open_clip model. ``scale`` is the checkpoint's own logit scale, which is never trained."""

    def __init__(self, model: nn.Module, tokenize: Callable[[list[str]], Tensor], scale: float) -> None:
        self.model, self.scale = model, scale
        self._tokenize = tokenize
        self._tokens: dict[tuple[tuple[str, ...], tuple[str, ...]], Tensor] = {}

    def rows(self, classes: Sequence[str], prompts: Sequence[str], recompute: bool = False) -> Tensor:
        """(C, D), unit norm: per class, the mean of its prompts' unit embeddings (CLIP's prompt ensemble).

        ``recompute`` computes activations again for the gradient, so that those of a thousand classes fit on one GPU;
        not for weights that are kept while they are built once (``built_once``).
        """
        tokens = self._tokens_of(tuple(classes), tuple(prompts))
        texts = torch.cat([self._embedded(chunk, recompute) for chunk in tokens.split(_CHUNK)])
        units = F.normalize(texts.float(), dim=-1).reshape(len(classes), len(prompts), -1)
        return F.normalize(units.mean(dim=1), dim=-1)

    def _embedded(self, tokens: Tensor, recompute: bool) -> Tensor:
        if recompute:
            return checkpoint(self.model.encode_text, tokens, use_reentrant=False)  # type: ignore[no-any-return]
        return self.model.encode_text(tokens)  # type: ignore[operator, no-any-return]  # open_clip's method

    def _tokens_of(self, classes: tuple[str, ...], prompts: tuple[str, ...]) -> Tensor:
        """Tokenised once, however often the rows are computed anew."""
        if (classes, prompts) not in self._tokens:
            texts = [prompt.replace("{}", name) for name in classes for prompt in prompts]
            self._tokens[classes, prompts] = self._tokenize(texts)
        return self._tokens[classes, prompts].to(next(self.model.parameters()).device)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tower's own weights by their names in the whole model."""
        return {name: value for name, value in self.model.named_parameters() if is_text(name)}

    def tensors(self) -> dict[str, Tensor]:
        """Weights and buffers of the tower, by their names in the whole model."""
        return {name: value for name, value in self.model.state_dict().items() if is_text(name)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave; raises ModelError where a name or a shape is another."""
        own = self.tensors()
        wrong = [name for name, value in tensors.items() if name not in own or own[name].shape != value.shape]
        if wrong or tensors.keys() != own.keys():
            name = (wrong or sorted(own.keys() - tensors.keys()))[0]
            raise ModelError(f"the text tower's weights do not fit this model, first '{name}'", "text")
        self.model.load_state_dict(tensors, strict=False)

    def attach(self, lora: Lora, seed: int) -> None:
        """Adapt and freeze the tower; the image tower stays as it is. Raises ModelError where nothing is adapted."""
        visual = self.model.visual
        assert isinstance(visual, nn.Module)
        lora.attach(self.model, seed, leave_out=(visual,), name="the text tower")

    def adapter(self) -> dict[str, Tensor]:
        """The tower's A and B, by their names in the whole model."""
        return {name: value for name, value in adapter(self.model).items() if is_text(name)}

    def load_adapter(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``adapter``."""
        others = {name: value for name, value in adapter(self.model).items() if not is_text(name)}
        load_adapter(self.model, others | tensors)

    def fingerprint(self) -> str:
        """SHA-256 of every weight and of the layers."""
        return fingerprint(self.tensors(), str(self.model))


def is_text(name: str) -> bool:
    """Whether a weight of an open_clip model is the text tower's: neither the image tower's nor the logit scale."""
    return not name.startswith(("visual.", "logit_"))


def fingerprint(tensors: dict[str, Tensor], layers: str) -> str:
    """SHA-256 of names, shapes, types and every byte, and of the printed ``layers``: an activation has no weights."""
    digest = hashlib.sha256(layers.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
