"""The model card of an export: what was done to the encoder, what was measured and how surely, what is not known."""

from collections.abc import Mapping
from typing import Any

import yaml

from robustcore.export import Format, usage
from robustcore.intervals import metric_interval
from robustcore.models import Loaded
from robustcore.models.architectures import BYTE_VOCABULARY
from robustcore.models.weights import SHIPPED
from sweeps.results import TrialRecord

_LIBRARIES: dict[Format, str] = {"open_clip": "open_clip", "hf": "transformers", "timm": "timm", "onnx": "onnx"}
_UNKNOWN = "unknown — check"
_BOUND = (
    "Each attacked accuracy is what the attack that is named leaves: an upper bound of the robust accuracy in its\n"
    "ball, which a stronger attack may lower. Intervals are Wilson's, for the images alone: other seeds move it too."
)


def card(study: str, record: TrialRecord, recipe: Mapping[str, Any], loaded: Loaded, to: Format) -> str:
    """``README.md`` of the export, as model hubs read it. ``recipe`` is the record's with every default filled in."""
    name = f"{study}-{record.trial}"
    parts = [
        _front_matter(recipe, loaded, to),
        f"# {name}\n\n{_what(study, record, recipe, loaded)}",
        f"## Use\n\n```python\n{usage(loaded, to, 'FOLDER')}```\n\n{_contents(loaded, to)}",
        f"## Measured\n\n{_searched(recipe['evaluation'], record)}",
        f"## Measured again at full strength\n\n{_certified(record)}",
        f"## Flags\n\n{_flags(record)}",
        f"## Data\n\n{_yaml({'training': recipe['data'], 'evaluation': _images(recipe['evaluation'])})}",
        f"## Recipe\n\n{_yaml(recipe)}\n\nVersions: {_listed(record.versions) or 'unknown'}.",
        f"## Licences\n\n{_licences(recipe)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(recipe: Mapping[str, Any], loaded: Loaded, to: Format) -> str:
    model, zero_shot = recipe["model"], loaded.text is not None and to in ("open_clip", "hf")
    content = {
        "license": "apache-2.0" if _is_ours(recipe) else "unknown",
        "library_name": _LIBRARIES[to],
        "pipeline_tag": "zero-shot-image-classification" if zero_shot else "image-feature-extraction",
        "tags": [model["kind"], recipe["loss"]["kind"], "adversarial-robustness", "adversarial-fine-tuning"],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _what(study: str, record: TrialRecord, recipe: Mapping[str, Any], loaded: Loaded) -> str:
    model = recipe["model"]
    start = f"from the weights `{model['weights']}`" if model["weights"] else "from random weights"
    lora = ", through LoRA, which is merged into the weights," if model["lora"] else ""
    text = " The text tower was tuned before that." if recipe["text"] else ""
    judged = "zero-shot with the prompts of the recipe" if loaded.text is not None else "a linear probe"
    return (
        f"A {'CLIP' if loaded.text is not None else 'SimCLR'} image encoder, fine-tuned{lora} {start} against "
        f"{_attack(recipe['attack'])} with the loss `{recipe['loss']['kind']}`, for {record.step} steps. It is trial "
        f"{record.trial} of the study `{study}`.{text} Its classifier is {judged}."
    )


def _contents(loaded: Loaded, to: Format) -> str:
    size, resize = loaded.preprocessing.size, loaded.preprocessing.resize
    how = "both sides to it" if resize == "squash" else "the shortest side to it, then a centre crop"
    lines = [f"Images: {size} pixels ({how}, {loaded.preprocessing.interpolation}). Embeddings are not normalised."]
    if to == "onnx":
        lines.append("The resize of the lines above is right for square images; `preprocessing.json` has all of it.")
    if loaded.text is None:
        lines.append(
            "`probe.safetensors` holds the linear probe that the accuracies below are measured with: logits are "
            "`embeddings @ weight.T + bias`. It was fitted on the original encoder's embeddings of the training images."
        )
    elif to in ("timm", "onnx"):
        lines.append("This is the image tower; the accuracies below need the text tower too (open_clip or hf).")
    elif loaded.config["text_cfg"].get("vocab_size") == BYTE_VOCABULARY:
        length = loaded.config["text_cfg"]["context_length"]
        lines.append(f"The tokens of a text are its UTF-8 bytes, 256, and zeros up to {length}; there is no tokenizer.")
    elif to == "hf":
        lines.append('Texts: `transformers.CLIPTokenizer.from_pretrained("openai/clip-vit-base-patch32")`.')
    return "\n".join(lines)


def _searched(evaluation: Mapping[str, Any], record: TrialRecord) -> str:
    """The accuracies; then drift from the original encoder and recalls of captioned images, which are none."""
    others = [name for name in record.metrics if name.startswith(("drift", "recall_at_"))]
    lines = [_table(evaluation["attacks"], record.metrics, record.samples), "", _BOUND, ""]
    return "\n".join([*lines, *(f"- `{name}`: {record.metrics[name]:.4g}" for name in others)]).rstrip()


def _table(attacks: Mapping[str, Any], metrics: Mapping[str, float], samples: Mapping[str, int]) -> str:
    rows = ["| name | attack | data set | images | accuracy | 95 % interval |", "|---|---|---|---|---|---|"]
    known = {"clean": "none", **{name: _attack(plain) for name, plain in attacks.items()}, "worst": "each of the above"}
    for name, attack in known.items():
        datasets = sorted(metric.partition("/")[2] for metric in metrics if metric.startswith(f"{name}/"))
        for dataset in [*datasets, *(["mean"] if len(datasets) > 1 else [])]:
            metric = f"{name}/{dataset}" if dataset in datasets else name
            interval = metric_interval(metric, metrics, samples)
            between = f"{interval.low:.1%} to {interval.high:.1%}" if interval is not None else "unknown"
            count = samples.get(dataset, "unknown") if dataset in datasets else ""
            rows.append(f"| {name} | {attack} | {dataset} | {count} | {metrics[metric]:.1%} | {between} |")
    return "\n".join(rows)


def _images(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("datasets", "suite", "retrieval", "resolution", "prompts")
    return {name: evaluation[name] for name in kept if evaluation.get(name)}


def _attack(plain: Mapping[str, Any]) -> str:
    """``PGD, linf, eps 4/255 (steps 20, stride 0.25)``: under its own name, whatever the recipe calls it."""
    ball, kind = plain.get("ball"), plain["kind"].upper().replace("_", "-")
    if plain["kind"] == "clean":
        return "no attack"
    rest = {name: value for name, value in plain.items() if name not in ("kind", "ball") and value is not None}
    where = f", {ball['kind']}, eps {_radius(ball)}" if ball else ""
    return f"{kind}{where}" + (f" ({_listed(rest)})" if rest else "")


def _radius(ball: Mapping[str, Any]) -> str:
    levels = ball["eps"] * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-9 else f"{ball['eps']:g}"


def _certified(record: TrialRecord) -> str:
    certificate = record.certificate
    if certificate is None:
        return "Not done: no attack but those above was run (`sweep certify` runs stronger ones)."
    table = _table(certificate.attacks, certificate.metrics, certificate.samples)
    return f"{table}\n\nAttacked again, with what the table says: measured, not proved."


def _flags(record: TrialRecord) -> str:
    flags = record.flags | (record.certificate.flags if record.certificate is not None else {})
    return "\n".join(f"- `{name}`: {sentence}" for name, sentence in flags.items()) or "None was raised."


def _licences(recipe: Mapping[str, Any]) -> str:
    base = recipe["model"]["weights"]
    weights = "Apache-2.0" if base in SHIPPED else _UNKNOWN if base else "none: training began at random weights"
    is_digits = recipe["data"]["train"]["kind"] == "digits"
    rows = {
        "code that trained it": "Apache-2.0",
        "weights it began from": f"{weights} (`{base}`)" if base else weights,
        "training data": "CC BY 4.0" if is_digits else _UNKNOWN,
        "these weights": "Apache-2.0" if _is_ours(recipe) else _UNKNOWN,
    }
    return "\n".join(f"- {what}: {licence}" for what, licence in rows.items())


def _is_ours(recipe: Mapping[str, Any]) -> bool:
    """Whether base weights and data come with the package: then the licence is known."""
    return recipe["model"]["weights"] in SHIPPED and recipe["data"]["train"]["kind"] == "digits"


def _yaml(plain: Any) -> str:
    return f"```yaml\n{yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)}```"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
