"""How good an encoder is, clean and attacked. Evaluation does not know that training exists."""

from robustcore.evaluation.evaluation import TAKEN, Evaluation, metric_names
from robustcore.evaluation.named_suite import NamedSuite
from robustcore.evaluation.outcome import Outcome, Survival
from robustcore.evaluation.suite import WATCH, AnchorsOf, ClassifierOf, Suite
from robustcore.evaluation.survivors import survivors

__all__ = [
    "TAKEN",
    "WATCH",
    "AnchorsOf",
    "ClassifierOf",
    "Evaluation",
    "NamedSuite",
    "Outcome",
    "Suite",
    "Survival",
    "metric_names",
    "survivors",
]
