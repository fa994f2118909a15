"""How hard to attack again: the attack that stands in the place of each that the search was measured with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from robustcore.evaluation import TAKEN, Evaluation
from sweeps.options import Strengthening
from sweeps.source.marked import UnreadableError, read_yaml
from sweeps.stored import RequestError
from sweeps.study import Study
from sweeps.study.rules import adapter
from sweeps.study.sentences import faults

DEFAULT = "autoattack"
_STEPS = {"apgd": 100, "pgd": 100}  # a certificate is to be harder than the search, which takes 10
_PLACE = ("recipe", "evaluation")
_CLEAN, _WORST = TAKEN[:2]


@dataclass(frozen=True)
class Strength:
    """``spec`` is an attack as a recipe writes it, but for the ball; ``samples`` of each data set, None is all."""

    spec: dict[str, Any]
    samples: int | None = None


def read_strength(attack: str | None, samples: int | None) -> Strength:
    """From an attack's name or a mapping in YAML; None is ``DEFAULT``. Raises RequestError where it is neither."""
    attack = DEFAULT if attack is None else attack
    try:
        marked = read_yaml(attack)
    except UnreadableError as error:
        raise RequestError(f"--attack {attack}: {error}") from None
    spec = {"kind": marked.value} if isinstance(marked.value, str) else marked.value
    if not isinstance(spec, dict) or marked.faults:
        fault = marked.faults[0][2] if marked.faults else "expected the name of an attack, or a mapping with its 'kind'"
        raise RequestError(f"--attack {attack}: {fault}")
    if "ball" in spec:
        raise RequestError(
            f"--attack {attack}: each attack keeps the ball that it was searched with; expected no 'ball'"
        )
    steps = _STEPS.get(str(spec.get("kind")))
    return Strength(spec if steps is None else {"steps": steps, **spec}, samples)


def strength_for(study: Study, wanted: Strengthening) -> Strength:
    """What was asked for, once it is known that the study can be attacked so. Raises RequestError."""
    strength = read_strength(wanted.attack, wanted.samples)
    strong_attacks(study, study.recipe.as_json(), strength)
    return strength


def strong_attacks(study: Study, recipe: Mapping[str, Any], strength: Strength) -> dict[str, Any]:
    """What stands in the place of each attack that an objective or a constraint is about, as a recipe writes it.

    ``recipe`` is a trial's, every value written out. Raises RequestError where nothing is attacked, or where the
    attack is not what a recipe could measure with.
    """
    searched: dict[str, Any] = recipe["evaluation"]["attacks"]
    about = {metric.partition("/")[0] for metric in (*study.objectives, *study.constraints)}
    named = {name: plain for name, plain in searched.items() if "ball" in plain and about & {name, _WORST}}
    if not named:
        raise RequestError(
            f"no objective of '{study.name}' is about an attack, so there is nothing to certify; expected one of "
            f"{', '.join([*searched, _WORST])} among {', '.join(study.objectives)}"
        )
    if _WORST in about:  # then it takes all of them
        named = searched
    strong = {n: {**strength.spec, "ball": plain["ball"]} if "ball" in plain else plain for n, plain in named.items()}
    return _validated({**recipe["evaluation"], "attacks": strong})


def _validated(plain: dict[str, Any]) -> dict[str, Any]:
    """The attacks of an evaluation with every value written out."""
    evaluations = adapter(Evaluation)
    try:
        evaluation = evaluations.validate_python(plain)
    except ValidationError as error:
        keys, message = faults(error, {"recipe": {"evaluation": plain}}, _PLACE)[0]
        key = ".".join(map(str, keys[len(_PLACE) + 2 :]))  # below attacks.<name>
        raise RequestError(f"--attack: {key + ': ' if key else ''}{message}") from None
    attacks: dict[str, Any] = evaluations.dump_python(evaluation, mode="json")["attacks"]
    return attacks


def data_sets(study: Study, attacks: Mapping[str, Any], samples: Mapping[str, int]) -> dict[str, int]:
    """Of ``samples`` (images by data set), those that an objective or a constraint is about."""
    accuracies = {_CLEAN, _WORST, *attacks}
    parts = [metric.partition("/") for metric in (*study.objectives, *study.constraints)]
    about = [dataset for attack, _, dataset in parts if attack in accuracies]
    return {name: count for name, count in samples.items() if "" in about or name in about}
