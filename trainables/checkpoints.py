"""A trial's progress on storage: safetensors for tensors, JSON for the rest, each pair whole or unused.

The JSON is written last and carries a digest of the tensors and one of itself: a pair that was cut short or damaged is
passed over, which is said, and the one before it is used. In-place trials and Ray Train runs write the same files, so
either continues the other's work.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

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

    @property
    def is_final(self) -> bool:
        """Whether its trial had nothing more to do; one that was asked to rest may have reported nothing yet."""
        return bool(self.reports) and self.reports[-1].final


def save_checkpoint(folder: Folder, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Write a pair, then drop the pairs before the last ones. ``fingerprint`` is the recipe's. Raises OSError."""
    state = checkpoint.state
    tensors = {_WEIGHTS + name: tensor.contiguous() for name, tensor in state.weights.items()}
    tensors |= {_OPTIMIZER + name: tensor.contiguous() for name, tensor in state.optimizer.items()}
    content = save(tensors)
    facts = {
        "step": state.step,
        "fingerprint": fingerprint,
        "sha256": _digest(content),
        "reports": [asdict(report) for report in checkpoint.reports],
    }
    facts["digest"] = _digest(json.dumps(facts).encode())
    folder.write(f"{_name(state.step)}.safetensors", content)
    folder.write(f"{_name(state.step)}.json", json.dumps(facts).encode())
    kept = _newest(folder)
    for name in folder.names():
        if name.split(".")[0] not in kept:
            folder.remove(name)


def load_checkpoint(folder: Folder, fingerprint: str) -> Checkpoint | None:
    """The newest whole pair of this recipe, or None. Raises OSError."""
    return find_checkpoint(folder, fingerprint)[0]


def find_checkpoint(folder: Folder, fingerprint: str) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole pair of this recipe, or None, and what is wrong with each newer one. Raises OSError."""
    damage: list[str] = []
    for name in reversed(_newest(folder)):
        try:
            return _read(folder, name, fingerprint), damage
        except FileNotFoundError as error:
            damage.append(f"checkpoint {name} is not whole ({Path(error.filename or name).name} is missing)")
        except (ValueError, TypeError, KeyError) as error:
            damage.append(f"checkpoint {name} is damaged ({' '.join(str(error).split())})")
    return None, damage


def _read(folder: Folder, name: str, fingerprint: str) -> Checkpoint:
    facts = json.loads(folder.read(f"{name}.json"))
    digest = facts.pop("digest", None)  # older ones have none
    content = folder.read(f"{name}.safetensors")
    if _digest(content) != facts["sha256"] or digest not in (None, _digest(json.dumps(facts).encode())):
        raise ValueError("its checksum is wrong")
    if facts["fingerprint"] != fingerprint:
        raise ValueError("it is of another recipe")
    tensors = load(content)
    state = State(
        facts["step"],
        {key.removeprefix(_WEIGHTS): value for key, value in tensors.items() if key.startswith(_WEIGHTS)},
        {key.removeprefix(_OPTIMIZER): value for key, value in tensors.items() if key.startswith(_OPTIMIZER)},
    )
    return Checkpoint(state, [Report(**report) for report in facts["reports"]])


def _newest(folder: Folder) -> list[str]:
    return sorted(name.removesuffix(".json") for name in folder.names() if name.endswith(".json"))[-_KEEP:]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _name(step: int) -> str:
    return f"step-{step:08d}"
