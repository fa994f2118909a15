"""Ray's own judgement of a file for `ray up`: its schema, read offline; it fills in its defaults and starts nothing."""

import copy
import logging
from collections.abc import Iterator

from sweeps.clusters.check.definitions import refusal
from sweeps.clusters.manifest import Document, Fault


def ray_faults(document: Document) -> Iterator[Fault]:
    """What Ray's launcher would refuse; the first fault alone, as Ray says it."""
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        validate_config(prepare_config(copy.deepcopy(document.value)))
    except ValidationError as error:
        yield tuple(error.absolute_path), f"Ray refuses it: {refusal(error)}"
    except (ValueError, KeyError, AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        yield (), f"Ray refuses it: {' '.join(str(error).split())[:200]}"
