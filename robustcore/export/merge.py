"""LoRA, merged for good: a model that was never adapted gets the very weights that the adapted one uses."""

from robustcore.models import Loaded, LoadedClip, Model
from robustcore.models.lora import merged


def plain_model(model: Model, trained: Loaded) -> Loaded:
    """``trained`` with its LoRA, if it has any, in its weights; on the CPU. ``trained`` stays what it is."""
    plain = model.load()
    if isinstance(trained, LoadedClip):
        assert isinstance(plain, LoadedClip)
        plain.model.load_state_dict(merged(trained.model))
    else:
        plain.encoder.load_state_dict(merged(trained.encoder))
    return plain
