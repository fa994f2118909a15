"""``onnxruntime.InferenceSession("FOLDER/model.onnx")``: pixels in [0, 1] to embeddings, the normaliser inside."""

import warnings
from pathlib import Path

import torch

from robustcore.export.layout import normaliser, write_json
from robustcore.models import Loaded

USAGE = """\
import numpy, onnxruntime
pixels = numpy.float32(image.convert("RGB").resize(({size}, {size})))[None].transpose(0, 3, 1, 2) / 255
embeddings = onnxruntime.InferenceSession("{folder}/model.onnx").run(None, {{"pixels": pixels}})[0]
"""

_IN_ONE_FILE = 2**30  # bytes of weights; a file of ONNX ends at 2 GiB


def write(loaded: Loaded, folder: Path) -> None:
    """``model.onnx``, (B, 3, size, size) ``pixels`` to (B, D) ``embeddings``, and ``preprocessing.json``.

    B is free. The weights of a large encoder are beside it in ``model.onnx.data``.
    """
    encoder, size = loaded.encoder, loaded.preprocessing.size
    weights = sum(parameter.nbytes for parameter in encoder.parameters())
    with warnings.catch_warnings():
        # torch 2.13 copies what it calls deprecated itself.
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        torch.onnx.export(
            encoder,
            (torch.rand(2, 3, size, size),),
            folder / "model.onnx",
            input_names=["pixels"],
            output_names=["embeddings"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=weights > _IN_ONE_FILE,
            verbose=False,
        )
    preprocessing = {
        "size": size,
        "resize": loaded.preprocessing.resize,
        "interpolation": loaded.preprocessing.interpolation,
        "pixels": "[0, 1], not normalised",
        "normaliser_inside": normaliser(encoder),
    }
    write_json(folder / "preprocessing.json", preprocessing)
