"""``open_clip.create_model_and_transforms("local-dir:FOLDER")``: both towers, and the activation they have."""

from pathlib import Path

from robustcore.errors import ModelError
from robustcore.export.layout import normaliser, write_json, write_tensors
from robustcore.models import Loaded, LoadedClip

USAGE = """\
import open_clip
model, _, prepare = open_clip.create_model_and_transforms("local-dir:{folder}")
embeddings = model.eval().encode_image(prepare(image)[None])
"""


def write(loaded: Loaded, folder: Path) -> None:
    """``open_clip_config.json`` and ``open_clip_model.safetensors``; raises ModelError for a SimCLR."""
    if not isinstance(loaded, LoadedClip):
        raise ModelError("open_clip has no models without a text tower; expected timm or onnx for a SimCLR", "to")
    preprocess = {
        **normaliser(loaded.encoder),
        "interpolation": loaded.preprocessing.interpolation,
        "resize_mode": loaded.preprocessing.resize,
    }
    write_json(folder / "open_clip_config.json", {"model_cfg": loaded.config, "preprocess_cfg": preprocess})
    write_tensors(folder / "open_clip_model.safetensors", loaded.model.state_dict())
