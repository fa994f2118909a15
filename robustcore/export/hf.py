"""``transformers.CLIPVisionModelWithProjection.from_pretrained(FOLDER)``, and CLIPModel; needs no transformers."""

from pathlib import Path

from robustcore.data.images import Preprocessing
from robustcore.errors import ModelError
from robustcore.export.layout import normaliser, write_json, write_tensors
from robustcore.models import Encoder, Loaded, LoadedClip
from robustcore.models.huggingface import RESAMPLING, transformers_config, transformers_tensors

USAGE = """\
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection
model, prepare = (of.from_pretrained("{folder}") for of in (CLIPVisionModelWithProjection, CLIPImageProcessor))
embeddings = model(**prepare(image, return_tensors="pt")).image_embeds
"""


def write(loaded: Loaded, folder: Path) -> None:
    """``config.json``, ``preprocessor_config.json``, ``model.safetensors``; ModelError unless it is a plain CLIP."""
    if not isinstance(loaded, LoadedClip):
        raise ModelError("the CLIP of transformers has a text tower; expected timm or onnx for a SimCLR", "to")
    write_json(folder / "config.json", transformers_config(loaded.config))
    write_tensors(folder / "model.safetensors", transformers_tensors(loaded.model.state_dict()))
    write_json(folder / "preprocessor_config.json", _preprocessor(loaded.encoder, loaded.preprocessing))


def _preprocessor(encoder: Encoder, preprocessing: Preprocessing) -> dict[str, object]:
    numbers, square = normaliser(encoder), {"height": preprocessing.size, "width": preprocessing.size}
    shortest = preprocessing.resize == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": preprocessing.size} if shortest else square,
        "resample": RESAMPLING[preprocessing.interpolation],
        "do_center_crop": shortest,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": numbers["mean"],
        "image_std": numbers["std"],
    }
