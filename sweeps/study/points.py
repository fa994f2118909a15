"""``search.points``: knob values to try first, read as their knobs read them: a point is what a trial will have.

A point may leave knobs out: the sampler fills them in.
"""

from collections.abc import Iterator, Mapping, Sequence

from sweeps.results.records import Value
from sweeps.source import Problem, Source, did_you_mean
from sweeps.source.marked import KeyPath
from sweeps.source.settings import knob_path, put, recipe_keys
from sweeps.study.keys import Point, Search
from sweeps.study.rules import mapping, part
from sweeps.study.sentences import shown
from sweeps.study.space import Space
from sweeps.study.variants import recipe_faults


def read_points(points: Sequence[Mapping[str, Value]], knobs: Mapping[str, Space]) -> tuple[Point, ...]:
    """With every value as its knob has it; raises ValueError, or KeyError where there is no such knob."""
    named = ({knob_path(name): value for name, value in point.items()} for point in points)
    return tuple({path: knobs[path].admit(value) for path, value in point.items()} for point in named)


def point_problems(source: Source, knobs: dict[str, Space]) -> Iterator[Problem]:
    """Everything wrong with the points of a study; ``knobs`` are the sound ones by their paths."""
    written = source.at("search", "points")
    points = written if isinstance(written, list) else []
    search: Search | None = part(source, Search, "search")
    if search is not None and len(points) > search.trials:
        message = f"expected no more points than trials, of which there are {search.trials}, got {len(points)}"
        yield source.problem(("search", "points"), message)
    known = [knob_path(name) for name in mapping(source, "knobs")]
    for position in range(len(points)):
        place: KeyPath = ("search", "points", position)
        point: Point | None = part(source, Point, *place)
        if point is not None:
            found = list(_of_point(source, place, point, known, knobs))
            yield from found or _invalid(source, place, point, knobs)


def _of_point(
    source: Source, place: KeyPath, point: Point, known: list[str], knobs: dict[str, Space]
) -> Iterator[Problem]:
    for name, value in point.items():
        path = knob_path(name)
        if path not in known:
            near = did_you_mean(path, known) or f", expected one of: {', '.join(known) or 'none, there are no knobs'}"
            yield source.problem((*place, name), f"no knob of this study{near}")
        elif path in knobs:
            try:
                knobs[path].admit(value)
            except ValueError as error:
                yield source.problem((*place, name), str(error))


def _invalid(source: Source, place: KeyPath, point: Point, knobs: dict[str, Space]) -> Iterator[Problem]:
    """A point whose values do not go together, where it says all that matters."""
    recipe = source.at("recipe")
    if not isinstance(recipe, dict) or set(map(knob_path, point)) != set(knobs):
        return
    base, values = recipe_faults(source, recipe), read_points([point], knobs)[0]
    for path, value in values.items():
        recipe = put(recipe, recipe_keys(recipe, path), value)
    for fault in recipe_faults(source, recipe):
        if fault not in base:
            at = ", ".join(f"{path} {shown(value)}" for path, value in values.items())
            yield source.problem(place, f"the recipe is not valid at {at}: {fault[1]}")
            return
