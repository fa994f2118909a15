"""FAB (Croce & Hein 2020, arXiv 1907.02044), targeted: from the boundary between two classes back to the image.

It looks for the nearest point of another class instead of the worst one in the ball; its points may be outside.
"""

from dataclasses import dataclass as rows

import torch
from torch import Tensor

from robustcore.attacks.balls import Ball
from robustcore.attacks.rows import Look, Rows
from robustcore.types import Images, PerImage

_OVERSHOOT = 1.05  # eta: a step goes a little beyond the boundary as it looks from here
_BACK = 0.9  # beta: a point that is over it goes back towards the image
_TOWARDS_IMAGE = 0.1  # alpha_max: at most this share of each step starts from the image itself
_ROUNDS = 20
_SMALLEST_STEP = 1e-8
_TINY = torch.finfo(torch.float32).tiny


@rows
class Boundary(Rows):
    """Where each image is on its way to the boundary; see ``Search``. The loss it looks at is l_target - l_label.

    The paper looks twice at a step, at the new point and, where that is over the boundary, again after going back;
    here the one look serves both, being a tangent of the same boundary.
    """

    ball: Ball
    images: Images
    points: Images
    step: Tensor

    @staticmethod
    def start(ball: Ball, images: Images) -> "Boundary":
        """From the images themselves."""
        return Boundary(ball, images, images, torch.zeros(len(images), dtype=torch.int64, device=images.device))

    def saw(self, look: Look) -> None:
        """To the hyperplane on which loss and gradient say that the classes meet, and a little beyond."""
        assert look.gradient is not None, "the hyperplane is made of the gradient"
        assert look.wrong is not None, "what is over the boundary goes back"
        over = look.wrong.reshape(-1, 1, 1, 1)
        here = torch.where(over, self.images + _BACK * (self.points - self.images), self.points)
        short = [self._missing(look, start) for start in (here, self.images)]
        from_here, from_image = (
            to_hyperplane(start, look.gradient, missing, self.ball)
            for start, missing in zip((here, self.images), short, strict=True)
        )
        near, far = (self.ball.norm(offset).clamp_min(_SMALLEST_STEP) for offset in (from_here, from_image))
        share = (near / (near + far)).clamp_max(_TOWARDS_IMAGE)
        moved = (here + _OVERSHOOT * from_here) * (1 - share) + (self.images + _OVERSHOOT * from_image) * share
        self.points = moved.clamp(0, 1)
        self.step = self.step + 1

    def _missing(self, look: Look, start: Images) -> PerImage:
        """What the tangent's loss at ``start`` lacks to zero."""
        assert look.gradient is not None, "see above"
        return -look.loss - (look.gradient * (start - self.points)).sum(dim=(1, 2, 3))


def to_hyperplane(points: Images, normal: Tensor, missing: PerImage, ball: Ball) -> Tensor:
    """The shortest offset d, in the ball's norm, with ``normal . d = missing`` and ``points + d`` in the box [0, 1].

    Where the box holds no such point, the one that comes nearest. Each pixel moves by ``min(t u, room)``: u is 1
    under linf and the size of its normal under l2, and t is the root of a rising concave function made of straight
    pieces. Newton's method from 0 never overshoots and ends on the root's piece: no sort, no search.
    """
    rising = (normal * missing.sign().reshape(-1, 1, 1, 1)).flatten(1)
    slope, missing = normal.abs().flatten(1), missing.abs()[:, None]
    # Exact at 0 and 1; ``where``, and products with truth values, are several times as slow on a CPU.
    room = torch.lerp(points.flatten(1), 1 - points.flatten(1), (rising > 0).to(points.dtype))
    unit = torch.ones_like(missing) if ball.kind == "linf" else slope
    until = room / unit.clamp_min(_TINY)  # the t at which a pixel meets its wall
    weight = slope * unit
    filled = weight * until
    root = torch.zeros_like(missing)
    for _ in range(_ROUNDS):
        free, before = (until > root).to(weight.dtype), root
        left = missing - torch.linalg.vecdot(filled, 1 - free)[:, None]
        root = left / torch.linalg.vecdot(weight, free)[:, None].clamp_min(_TINY)
        if root.device.type == "cpu" and torch.equal(root, before):  # a GPU would be waited for
            break
    return (rising.sign() * torch.minimum(root.clamp_max(1e30) * unit, room)).reshape(points.shape)
