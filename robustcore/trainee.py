"""What training changes: the image encoder, whole or through LoRA, and with LoRA on both towers the text tower too."""

from torch import Tensor, nn

from robustcore.models import Encoder, Loaded, TextTower
from robustcore.models.lora import Lora, adapter, load_adapter
from robustcore.recipe import Recipe
from robustcore.text_stage import load_text, text_tensors

_TEXT = "text."


class Trainee:
    """The trained part of a loaded model; from here on, only its parameters have gradients.

    ``tensors`` is all that a checkpoint needs beside the original weights: with LoRA, the adapter alone.
    """

    def __init__(self, recipe: Recipe, loaded: Loaded) -> None:
        self.encoder: Encoder = loaded.encoder
        self.text: TextTower | None = loaded.text
        self._lora: Lora | None = recipe.model.lora
        self._stage = recipe.text
        self.trains_text = recipe.trains_text
        if self._lora is None:
            self.encoder.requires_grad_(True)
            return
        self._lora.attach(self.encoder.visual, recipe.seed)
        if self.trains_text:
            self._text.attach(self._lora, recipe.seed)

    @property
    def _text(self) -> TextTower:
        assert self.text is not None, "a recipe about text has a model with a text tower"
        return self.text

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that the optimizer moves, by name."""
        vision = {name: value for name, value in self.encoder.named_parameters() if value.requires_grad}
        return vision | self.text_parameters()

    def text_parameters(self) -> dict[str, nn.Parameter]:
        """Those of the text tower."""
        if not self.trains_text:
            return {}
        return {_TEXT + name: value for name, value in self._text.parameters().items() if value.requires_grad}

    def tensors(self) -> dict[str, Tensor]:
        """What differs from the original weights; not copies."""
        vision = self.encoder.state_dict() if self._lora is None else adapter(self.encoder)
        text: dict[str, Tensor] = {}
        if self._stage is not None:
            text = text_tensors(self._stage, self._text)
        elif self.trains_text:
            text = self._text.adapter()
        return vision | {_TEXT + name: value for name, value in text.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``tensors``."""
        text = text_part(tensors)
        vision = {name: value for name, value in tensors.items() if not name.startswith(_TEXT)}
        if self._lora is None:
            self.encoder.load_state_dict(vision)
        else:
            load_adapter(self.encoder, vision)
        if self._stage is not None:
            load_text(self._stage, self._text, text)
        elif self.trains_text:
            self._text.load_adapter(text)


def text_part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of ``Trainee.tensors``, those of the text tower under its own names."""
    return {name.removeprefix(_TEXT): value for name, value in tensors.items() if name.startswith(_TEXT)}
