"""How good an encoder is, clean and attacked. Evaluation does not know that training exists."""

from robustcore.evaluation.evaluation import TAKEN, Evaluation
from robustcore.evaluation.outcome import Outcome, Survival
from robustcore.evaluation.suite import WATCH, AnchorsOf, ClassifierOf, Suite
from robustcore.evaluation.survivors import survivors

__all__ = ["TAKEN", "WATCH", "AnchorsOf", "ClassifierOf", "Evaluation", "Outcome", "Suite", "Survival", "survivors"]
