"""The same vision transformer with less work: nothing is computed that its embedding does not depend on.

Modules of open_clip get a subclass of their own class in place: names and tensors of the state dict stay what they are.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcore.models.openclip import ResidualAttentionBlock, VisionTransformer

_LEAST_ROWS = 16  # matrix products of fewer rows sum in another order: an embedding would depend on the batch


def lean(visual: nn.Module) -> nn.Module:
    """Make a tower of open_clip cheaper in place, and return it; one that is built otherwise stays as it is.

    Embeddings and gradients are the same to rounding. A PGD step of the shipped CLIP takes half the time on a CPU;
    of a deep tower, the last block is saved.
    """
    if type(visual) is not VisionTransformer:
        return visual
    tower: Any = visual  # open_clip's, which says no types
    if type(tower.conv1) is nn.Conv2d and tower.conv1.stride == tower.conv1.kernel_size:
        tower.conv1.__class__ = _Patches
    blocks = list(tower.transformer.resblocks)
    if not tower.transformer.batch_first or any(type(block) is not ResidualAttentionBlock for block in blocks):
        return visual
    for block in blocks:
        block.attn.__class__ = _SelfAttention
    if tower.attn_pool is None and tower.pool_type == "tok":
        blocks[-1].__class__ = _ClassTokenBlock
    return visual


class _Patches(nn.Conv2d):
    """Patches that do not overlap, as one matrix product where a gradient in the pixels is asked for: half the time."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, rows, columns)."""
        (height, width), (rows, columns) = self.kernel_size, images.shape[2:]
        if not (torch.is_grad_enabled() and images.requires_grad) or rows % height or columns % width:
            return super().forward(images)
        down, across = rows // height, columns // width
        cut = images.reshape(len(images), -1, down, height, across, width).permute(0, 2, 4, 1, 3, 5)
        patches = F.linear(cut.reshape(len(images), down * across, -1), self.weight.flatten(1), self.bias)
        return patches.transpose(1, 2).reshape(len(images), -1, down, across)


class _SelfAttention(nn.MultiheadAttention):
    """Attention of tokens (B, Q, D) to tokens (B, L, D) without the copies that another order of dimensions costs."""

    def forward(  # type: ignore[override]  # of all that torch's own takes, what open_clip's blocks give
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(B, Q, D), and no weights; key and value are the same."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        heads, size = self.num_heads, self.head_dim
        if query is key:
            q, k, v = _split(F.linear(query, weight, bias), 3, heads, size)
        else:
            own, others = weight.split([self.embed_dim, 2 * self.embed_dim])
            own_bias, others_bias = bias.split([self.embed_dim, 2 * self.embed_dim])
            (q,) = _split(F.linear(query, own, own_bias), 1, heads, size)
            k, v = _split(F.linear(key, others, others_bias), 2, heads, size)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def _split(projected: Tensor, parts: int, heads: int, size: int) -> tuple[Tensor, ...]:
    """(B, L, parts * D) to that many (B, heads, L, size)."""
    return torch.unbind(projected.unflatten(2, (parts, heads, size)).permute(2, 0, 3, 1, 4))


class _ClassTokenBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip says no types
    """A last block: the class token alone is read from it, so only that one attends and goes through the MLP."""

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, L, D) to the class token, (B, 1, D)."""
        padded = q_x
        if not torch.compiler.is_exporting() and len(q_x) < _LEAST_ROWS:  # an exported one takes any batch
            padded = q_x[torch.arange(_LEAST_ROWS, device=q_x.device) % len(q_x)]
        tokens = self.ln_1(padded)
        # Of a strided tensor, torch picks the order of summation by what requires a gradient.
        class_token = tokens[:, :1].contiguous()
        first = padded[:, :1] + self.ls_1(self.attention(class_token, tokens, tokens, attn_mask))
        found: Tensor = first + self.ls_2(self.mlp(self.ln_2(first)))
        return found if padded is q_x else found[: len(q_x)]
