"""KubeRay's own definitions of its objects (custom resource definitions), read as schemas that refuse unknown keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sweeps.clusters.check.shape import shown
from sweeps.clusters.manifest import Document, Fault, at, list_at, mapping_at, text_at
from sweeps.source import did_you_mean
from sweeps.stored import RequestError

Schemas = dict[tuple[str, str], dict[str, Any]]  # by apiVersion and kind


def read_definitions(folder: Path) -> Schemas:
    """Every definition in the folder's YAML files; RequestError where there is none."""
    found: Schemas = {}
    for path in sorted(folder.glob("*.y*ml")):
        try:
            documents = list(yaml.load_all(path.read_bytes(), Loader=_loader()))
        except (OSError, yaml.YAMLError) as error:
            raise RequestError(f"{path}: cannot be read ({' '.join(str(error).split())[:100]})") from None
        for document in documents:
            if at(document, "kind") == "CustomResourceDefinition":
                found |= _schemas(document)
    if not found:
        raise RequestError(f"--definitions {folder}: expected a folder with KubeRay's definitions, got none there")
    return found


def definition_faults(document: Document, schemas: Schemas) -> Iterator[Fault]:
    """What the definition of the document's kind refuses, or would drop without a word."""
    schema = schemas.get((text_at(document.value, "apiVersion"), document.kind))
    if schema is None:
        return
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema).iter_errors(document.value):
        keys = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in sorted(error.instance.keys() - set(known)):
                yield (*keys, key), f"unknown key of KubeRay's definition{did_you_mean(key, known)}"
        else:
            yield keys, f"KubeRay's definition refuses it: {refusal(error)}"


def refusal(error: Any) -> str:
    """Of a jsonschema.ValidationError, without the value, which may hold a secret."""
    if error.validator == "required":
        return str(error.message)
    if error.validator == "type":
        return f"expected {error.validator_value}, got {shown(error.instance)}"
    return f"expected {error.validator} {error.validator_value}"[:200]


def _schemas(definition: dict[str, Any]) -> Schemas:
    spec = mapping_at(definition, "spec")
    found: Schemas = {}
    for version in list_at(spec, "versions"):
        schema = _strict(mapping_at(version, "schema", "openAPIV3Schema"))
        schema.setdefault("properties", {})["metadata"] = {"type": "object"}  # Kubernetes' own
        found[f"{text_at(spec, 'group')}/{text_at(version, 'name')}", text_at(spec, "names", "kind")] = schema
    return found


def _strict(schema: Any) -> Any:
    """JSON Schema of what Kubernetes writes in a dialect of it; unknown keys, which a server drops, are refused."""
    if isinstance(schema, list):
        return [_strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if strict.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string", "number"]}
    is_open = strict.get("x-kubernetes-preserve-unknown-fields") is True
    if isinstance(strict.get("properties"), dict) and strict.get("type") == "object" and not is_open:
        strict.setdefault("additionalProperties", False)
    return strict


def _loader() -> Any:
    """The definitions are long; libyaml reads them ten times faster where it is there."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
