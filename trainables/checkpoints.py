"""A trial's progress on storage: safetensors for tensors, JSON for the rest, each pair whole or unused.

The JSON is written last and carries the digest of the tensors: a pair cut short or damaged is passed over and the one
before it is used. In-place trials and Ray Train runs write the same files, so either continues the other's work.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from safetensors.torch import load, save

from robustcore.finetune import State
from robustcore.storage import Folder

_KEEP = 2  # the newest, and the one before it in case the newest is damaged
_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


@dataclass(frozen=True)
class Report:
    """What is known of a trial at one step; ``seconds`` counts its work in all processes it ever ran in."""

    step: int
    metrics: dict[str, float]
    seconds: float
    final: bool
    samples: dict[str, int] = field(default_factory=dict)  # see ``Progress``
    flags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """The state to go on from, and everything reported until then, oldest first."""

    state: State
    reports: list[Report]


def save_checkpoint(folder: Folder, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Write a pair, then drop the pairs before the last ones. ``fingerprint`` is the recipe's. Raises OSError."""
    state = checkpoint.state
    tensors = {_WEIGHTS + name: tensor.contiguous() for name, tensor in state.weights.items()}
    tensors |= {_OPTIMIZER + name: tensor.contiguous() for name, tensor in state.optimizer.items()}
    content = save(tensors)
    facts = {
        "step": state.step,
        "fingerprint": fingerprint,
        "sha256": hashlib.sha256(content).hexdigest(),
        "reports": [asdict(report) for report in checkpoint.reports],
    }
    folder.write(f"{_name(state.step)}.safetensors", content)
    folder.write(f"{_name(state.step)}.json", json.dumps(facts).encode())
    for name in folder.names():
        if name.split(".")[0] not in _newest(folder):
            folder.remove(name)


def load_checkpoint(folder: Folder, fingerprint: str) -> Checkpoint | None:
    """The newest whole pair of this recipe, or None."""
    for name in reversed(_newest(folder)):
        try:
            facts = json.loads(folder.read(f"{name}.json"))
            content = folder.read(f"{name}.safetensors")
            is_whole = hashlib.sha256(content).hexdigest() == facts["sha256"] and facts["fingerprint"] == fingerprint
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if is_whole:
            tensors = load(content)
            state = State(
                facts["step"],
                {key.removeprefix(_WEIGHTS): value for key, value in tensors.items() if key.startswith(_WEIGHTS)},
                {key.removeprefix(_OPTIMIZER): value for key, value in tensors.items() if key.startswith(_OPTIMIZER)},
            )
            return Checkpoint(state, [Report(**report) for report in facts["reports"]])
    return None


def _newest(folder: Folder) -> list[str]:
    return sorted(name.removesuffix(".json") for name in folder.names() if name.endswith(".json"))[-_KEEP:]


def _name(step: int) -> str:
    return f"step-{step:08d}"
