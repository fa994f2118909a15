"""How good an encoder is, clean and attacked. Evaluation does not know that training exists."""

from robustcore.evaluation.suite import WATCH, Evaluation, Suite
from robustcore.evaluation.survivors import survivors

__all__ = ["WATCH", "Evaluation", "Suite", "survivors"]
