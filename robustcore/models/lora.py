"""LoRA as a parametrization of weights: a tower uses W + scale B A in place of W and knows nothing of it.

Nothing is ever unparametrized: a copy of an adapted module shares its generated class, so ``merged`` writes tensors.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from annotated_types import Lt, MinLen
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robustcore.errors import ModelError
from robustcore.noise import Noise
from robustcore.types import STRICT, NonNegative, Positive, PositiveCount

Target = Literal["q", "k", "v", "out", "mlp", "conv"]
Targets = tuple[Target, ...]

_QUERY_KEY_VALUE: Targets = ("q", "k", "v")

# The names of open_clip and timm, and what a weight's rows are, from top to bottom.
_ATTENTION: dict[str, Targets] = {
    "in_proj_weight": _QUERY_KEY_VALUE,
    "q_proj_weight": ("q",),
    "k_proj_weight": ("k",),
    "v_proj_weight": ("v",),
}
_IN_ATTENTION: dict[str, Targets] = {
    "qkv": _QUERY_KEY_VALUE,
    "kv": ("k", "v"),
    "q": ("q",),
    "q_proj": ("q",),
    "k_proj": ("k",),
    "v_proj": ("v",),
    "out_proj": ("out",),
    "c_proj": ("out",),
    "proj": ("out",),
}
_IN_MLP: dict[str, Targets] = {"c_fc": ("mlp",), "c_proj": ("mlp",), "fc1": ("mlp",), "fc2": ("mlp",)}
_MARKS_OF_ATTENTION = ("in_proj_weight", "qkv", "q_proj", "q")

_AT_START = -1  # the stream of noise that A comes from; the steps of training are the others


@dataclass(frozen=True, config=STRICT)
class Lora:
    """W + scale B A on every weight of ``targets`` (Hu et al. 2022); only A (rank, in) and B (out, rank) train.

    The defaults are CLIP-LoRA's (Zanella & Ben Ayed 2024), but for its dropout of 0.25. A convolution's weight is the
    matrix (out, in * height * width); queries, keys and values have their own A and B where they share one tensor.
    """

    rank: PositiveCount = 2
    scale: Positive | None = None  # None: 1 / sqrt(rank)
    dropout: Annotated[NonNegative, Lt(1)] = 0.0  # share of the inputs of A that a training step does without
    targets: Annotated[Targets, MinLen(1)] = _QUERY_KEY_VALUE

    def attach(self, module: nn.Module, seed: int, leave_out: Sequence[nn.Module] = (), name: str = "") -> None:
        """Adapt and freeze ``module`` in place, all but the submodules ``leave_out``; its function stays what it is.

        A is uniform in +-1/sqrt(in) (Kaiming), a function of ``seed`` and of the weight's place in ``module`` alone;
        B is 0. Raises ModelError, which calls it ``name``, where ``module`` has none of the targets.
        """
        ours = _outside(module, leave_out)
        found = list(_adaptable(ours))
        self._must_match(name or type(module).__name__, {target for _, _, rows in found for target in rows})
        for child in ours.values():
            for parameter in child.parameters(recurse=False):
                parameter.requires_grad_(False)
        place = 0
        for owner, tensor, rows in found:
            blocks = tuple(block for block, target in enumerate(rows) if target in self.targets)
            if blocks:
                delta = _Delta(self, getattr(owner, tensor), blocks, len(rows), place, seed)
                parametrize.register_parametrization(owner, tensor, delta)
            place += len(rows)

    def _must_match(self, name: str, there: set[Target]) -> None:
        if not there.intersection(self.targets):
            raise ModelError(
                f"{name} has nothing that LoRA could adapt under {', '.join(self.targets)}; "
                f"it has {', '.join(sorted(there)) or 'none of the targets'}",
                "lora.targets",
            )


@contextmanager
def dropped(module: nn.Module, seed: int, step: int) -> Iterator[None]:
    """Inside, each A lacks some of its inputs: a function of ``seed``, ``step`` and the weight alone.

    A weight has no tokens to drop, so one mask serves the whole batch, the attack and the descent of a step: the
    function attacked is the function trained. Inputs kept are scaled by 1 / (1 - dropout).
    """
    deltas = [delta for _, delta, _ in _adapted(module)]
    for delta in deltas:
        delta.drop(seed, step)
    try:
        yield
    finally:
        for delta in deltas:
            delta.mask = None


def adapter(module: nn.Module) -> dict[str, Tensor]:
    """Every A and B, ``<weight>.lora_a`` (blocks, rank, in) and ``.lora_b`` (blocks, out, rank); not copies."""
    return {name: parameter.detach() for name, parameter in _factors(module).items()}


def load_adapter(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``adapter``; raises ModelError where a name or a shape differs from what ``attach`` made."""
    factors = _factors(module)
    for name in sorted(factors.keys() | tensors.keys()):
        expected, got = (tuple(some[name].shape) if name in some else "none" for some in (factors, tensors))
        if expected != got:
            raise ModelError(f"the adapter does not fit the model: '{name}' expected {expected}, got {got}", "lora")
    with torch.no_grad():
        for name, factor in factors.items():
            factor.copy_(tensors[name])


@torch.no_grad()
def merged(module: nn.Module) -> dict[str, Tensor]:
    """A state dict for the plain module: the very weights that ``module`` uses, under their plain names."""
    built = {name: weight() for name, _, weight in _adapted(module)}
    state: dict[str, Tensor] = module.state_dict()
    return {name: value for name, value in state.items() if "parametrizations" not in name.split(".")} | built


class _Delta(nn.Module):
    """W to W + scale B A, for one weight; ``blocks`` of its ``total`` equal blocks of rows each have their own A and B.

    Not in half precision, also under autocast: the step of a low rank would drown in the rounding of W.
    """

    mask: Tensor | None  # (blocks, 1, in); no buffer, which would travel between processes and into checkpoints

    def __init__(self, lora: Lora, weight: Tensor, blocks: tuple[int, ...], total: int, place: int, seed: int) -> None:
        super().__init__()
        self.scale = lora.scale or 1 / math.sqrt(lora.rank)
        self.dropout = lora.dropout
        self.blocks, self.total, self.mask = blocks, total, None
        # Images are numbered from 0, so no image ever shares a weight's numbers.
        self._keys = [-1 - place - block for block in blocks]
        rows, columns = len(weight) // total, weight[0].numel()
        start = (2 * self._uniform(seed, _AT_START, (lora.rank, columns), weight.device) - 1) / math.sqrt(columns)
        self.a = nn.Parameter(start)
        self.b = nn.Parameter(torch.zeros(len(blocks), rows, lora.rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            a = self.a if self.mask is None else self.a * self.mask
            parts = list(weight.reshape(self.total, self.b.shape[1], a.shape[2]))
            for block, delta in zip(self.blocks, self.scale * (self.b @ a), strict=True):
                parts[block] = parts[block] + delta
            return torch.cat(parts).reshape(weight.shape).to(weight.dtype)

    def drop(self, seed: int, step: int) -> None:
        if self.dropout > 0:
            kept = self._uniform(seed, step, (1, self.a.shape[2]), self.a.device) >= self.dropout
            self.mask = kept / (1 - self.dropout)

    def _uniform(self, seed: int, stream: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return Noise.of(seed, stream, torch.tensor(self._keys, device=device)).uniform(shape)


def _outside(module: nn.Module, leave_out: Sequence[nn.Module]) -> dict[str, nn.Module]:
    left_out = {child for tree in leave_out for child in tree.modules()}
    return {path: child for path, child in module.named_modules() if child not in left_out}


def _adaptable(modules: Mapping[str, nn.Module]) -> Iterator[tuple[nn.Module, str, Targets]]:
    """Each weight that could be adapted: its module, its name there, and what its blocks of rows are."""
    for path, owner in modules.items():
        assert not parametrize.is_parametrized(owner), f"'{path}' is adapted already"
        above, _, name = path.rpartition(".")
        if isinstance(owner, nn.Conv2d):
            yield owner, "weight", ("conv",)
        elif isinstance(owner, nn.Linear) and above in modules:
            attends = any(hasattr(modules[above], mark) for mark in _MARKS_OF_ATTENTION)
            rows = (_IN_ATTENTION if attends else _IN_MLP).get(name)
            if rows is not None:
                yield owner, "weight", rows
        else:
            for tensor, _ in owner.named_parameters(recurse=False):
                if tensor in _ATTENTION:
                    yield owner, tensor, _ATTENTION[tensor]


def _adapted(module: nn.Module) -> Iterator[tuple[str, _Delta, parametrize.ParametrizationList]]:
    """Each adapted weight: its plain name, its A and B, and what builds it."""
    for path, child in module.named_modules():
        if isinstance(child, parametrize.ParametrizationList) and isinstance(child[0], _Delta):
            owner, _, tensor = path.rpartition("parametrizations.")
            yield owner + tensor, child[0], child


def _factors(module: nn.Module) -> dict[str, nn.Parameter]:
    return {
        f"{name}.lora_{letter}": factor
        for name, delta, _ in _adapted(module)
        for letter, factor in (("a", delta.a), ("b", delta.b))
    }
