"""What a study will do and cost, before anything starts: ``sweep check`` prints it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robustcore.addresses import without_secrets
from robustcore.recipe import Recipe, recipe_from
from sweeps.check.earlier import earlier_trials
from sweeps.results.records import Value
from sweeps.study import Study

if TYPE_CHECKING:
    from trainables.resources import Node

Cost = dict[str, int]


def plan(study: Study, nodes: "Sequence[Node] | None" = None) -> dict[str, Any]:
    """Plain values; costs are of one trial, the least and the most that the knobs make of it.

    ``attack_steps`` count gradients in the pixels of one image, in training and in all evaluations (at most:
    an image that is wrong as it stands is not attacked). ``at_once`` is None where nobody said what there is.
    """
    least, most = _costs(study)
    plain = study.plain
    return {
        "study": study.name,
        "recipe": study.plain_recipe,
        "knobs": plain["knobs"],
        "pinned": list(study.pinned),
        "objectives": plain["objectives"],
        "constraints": plain["constraints"],
        "search": plain["search"],
        "stop_early": plain["stop_early"],
        "budget": plain["budget"],
        "resources": plain["resources"],
        "storage": without_secrets(study.storage),
        "trials": study.num_trials(),
        "earlier_trials": earlier_trials(study),
        "repeats_at_most": (study.search.seeds - 1) * study.num_trials(),
        "at_once": _at_once(study, nodes),
        "cost": {name: {"least": least[name], "most": most[name]} for name in least},
    }


def _at_once(study: Study, nodes: "Sequence[Node] | None") -> int | None:
    from trainables.resources import Demand, capacity

    limits = [] if study.resources.at_once is None else [study.resources.at_once]
    if nodes is not None:
        resources = study.resources
        limits.append(capacity(Demand(resources.workers, resources.cpus, resources.gpus), nodes))
    return min([*limits, study.num_trials()]) if limits else None


def _costs(study: Study) -> tuple[Cost, Cost]:
    sizes: dict[Any, int] = {}
    least, most = ends_of_cost(study, sizes)
    return cost_at(study, least, sizes), cost_at(study, most, sizes)


def ends_of_cost(study: Study, sizes: dict[Any, int]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Each knob's cheapest and dearest value, all together: no knob makes another one's work cheaper.

    ``sizes`` keep what data sets were opened for.
    """
    first = {path: knob.ends()[0] for path, knob in study.knobs.items()}
    cheapest, dearest = dict(first), dict(first)
    for path, knob in study.knobs.items():
        totals = [(cost_at(study, {**first, path: value}, sizes)["attack_steps"], value) for value in knob.ends()]
        cheapest[path] = min(totals, key=lambda pair: pair[0])[1]
        dearest[path] = max(totals, key=lambda pair: pair[0])[1]
    return cheapest, dearest


def cost_at(study: Study, knobs: dict[str, Value], sizes: dict[Any, int]) -> Cost:
    """Of the one trial with these values."""
    return _cost(recipe_from(study.recipe_at(knobs)), sizes)


def _cost(recipe: Recipe, sizes: dict[Any, int]) -> Cost:
    evaluation = recipe.evaluation
    sources = [source for _, source, _ in evaluation.sets()]
    for source in sources:
        if source not in sizes:
            sizes[source] = len(source.open().labels)
    captioned = [*evaluation.retrieval.values()]
    for captions in captioned:
        if captions not in sizes:
            sizes[captions] = len(captions.open().captions)
    evaluations = max(1, -(-recipe.optim.steps // evaluation.every))
    gradients = evaluation.gradients() * sum(sizes[source] for source in sources)
    gradients += evaluation.retrieval_gradients() * sum(sizes[captions] for captions in captioned)
    attacking = evaluations * gradients
    return {
        "steps": recipe.optim.steps,
        "evaluations": evaluations,
        "attack_steps_of_training": recipe.gradients(),
        "attack_steps_of_evaluation": attacking,
        "attack_steps": recipe.gradients() + attacking,
    }


def plan_text(described: dict[str, Any]) -> str:
    """A plan as YAML with numbers as people write them."""
    import yaml

    costs = {name.replace("_", " "): _range(**ends) for name, ends in described["cost"].items()}
    shown = {key: _given(value) for key, value in described.items() if key != "cost" and value not in (None, {}, [])}
    repeats = shown.pop("repeats_at_most")
    if repeats:
        shown["trials"] = f"{shown['trials']}, and up to {repeats} repeats with other seeds"
    entries = {
        **{key: _readable(value) for key, value in shown.items()},
        "at_once": "as many as fit" if described["at_once"] is None else described["at_once"],
    }
    text: str = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
    return text + yaml.safe_dump({"cost of each trial": costs}, sort_keys=False)


def _given(value: Any) -> Any:
    """Without what a section leaves open."""
    is_section = isinstance(value, dict)
    return {key: entry for key, entry in value.items() if entry not in (None, [])} if is_section else value


def _range(least: int, most: int) -> int | str:
    return least if least == most else f"{least:,} to {most:,}"


def _readable(value: Any) -> Any:
    """Radii as the quotients they are written as."""
    if isinstance(value, dict):
        return {key: _readable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_readable(entry) for entry in value]
    levels = value * 255 if isinstance(value, float) else 0
    if 0 < levels < 255 and abs(levels - round(levels)) < 1e-9 and round(levels) % 51:
        return f"{round(levels)}/255"
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
