"""Outcomes of several models side by side: tables for people (percent, intervals), CSV and JSON for programs."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields

from rich.console import Group
from rich.table import Table
from rich.text import Text

from robustcore.evaluation import Outcome
from robustcore.evaluation.tables import MEAN, Line, lines
from sweeps import wording

Outcomes = Mapping[str, Outcome]  # by model


def text_tables(outcomes: Outcomes, heading: str, classes: bool) -> Group:
    """What is there of: the mean over sets, each set, each class, retrieval, drift; then flags, a sentence each."""
    found = {model: list(lines(outcome)) for model, outcome in outcomes.items()}
    names = [*dict.fromkeys(name for outcome in outcomes.values() for name in outcome.survivals)]
    tables: list[Table] = []
    if names:
        dataset, what = (MEAN, f"mean of {len(names)} sets") if len(names) > 1 else (names[0], names[0])
        tables.append(_accuracies(found, f"{what}, {heading}", dataset))
    if len(names) > 1:
        tables += [_accuracies(found, name, name) for name in names]
    if classes:
        tables += [_by_class(found, name) for name in names]
    tables += list(_retrieval(found))
    if any(line.metric.startswith("drift") for line in _all(found)):
        tables.append(_drift(found))
    return Group(*tables, *_flags(outcomes))


def _all(found: Mapping[str, list[Line]]) -> Iterator[Line]:
    for of_model in found.values():
        yield from of_model


def _is_accuracy(line: Line) -> bool:
    return not line.metric.startswith(("drift", "recall_at_"))


def _accuracies(found: Mapping[str, list[Line]], title: str, dataset: str) -> Table:
    return _side_by_side(
        title,
        {
            model: [line for line in of_model if _is_accuracy(line) and (line.dataset, line.classname) == (dataset, "")]
            for model, of_model in found.items()
        },
        "model",
    )


def _by_class(found: Mapping[str, list[Line]], dataset: str) -> Table:
    """A row a class and model."""
    rows: dict[str, list[Line]] = {}
    classes = dict.fromkeys(line.classname for line in _all(found) if line.dataset == dataset and line.classname)
    for classname in classes:
        for model, of_model in found.items():
            name = classname if len(found) == 1 else f"{classname} · {model}"
            rows[name] = [line for line in of_model if (line.dataset, line.classname) == (dataset, classname)]
    return _side_by_side(f"{dataset} by class", rows, "class")


def _side_by_side(title: str, rows: Mapping[str, list[Line]], first: str) -> Table:
    metrics = [*dict.fromkeys(line.metric for of_row in rows.values() for line in of_row)]
    if len(metrics) <= 3:  # of one attack alone, the worst is the same again
        metrics = [metric for metric in metrics if metric != "worst"]
    counts = {of_row[0].count for of_row in rows.values() if of_row}
    alike = len(counts) == 1  # then the title says it, and a narrow terminal has room for one more attack
    title += f", {counts.pop()} images" if alike else ""
    table = _table(title, first, [*metrics, *([] if alike else ["images"])])
    for name, of_row in rows.items():
        by_metric = {line.metric: line for line in of_row}
        cells = [_share(by_metric[metric]) if metric in by_metric else Text("-") for metric in metrics]
        table.add_row(Text(name, overflow="fold"), *cells, *([] if alike else [Text(str(of_row[0].count))]))
    return table


def _retrieval(found: Mapping[str, list[Line]]) -> Iterator[Table]:
    """For each captioned set and direction, a row a model and attack."""
    recalls = [line for line in _all(found) if line.metric.startswith("recall_at_")]
    for dataset in dict.fromkeys(line.dataset for line in recalls):
        for direction in dict.fromkeys(line.metric.split("/")[1] for line in recalls):
            rows: dict[tuple[str, str], dict[str, Line]] = {}
            for model, of_model in found.items():
                for line in of_model:
                    cutoff, _, rest = line.metric.partition("/")
                    if line.dataset == dataset and rest.startswith(f"{direction}/"):
                        key = (model, rest.removeprefix(f"{direction}/"))
                        rows.setdefault(key, {})[f"R@{cutoff.removeprefix('recall_at_')}"] = line
            headings = [*dict.fromkeys(name for row in rows.values() for name in row)]
            title = f"{dataset}, {direction.replace('_', ' ')}"
            table = _table(title, "model", ["attack", *headings, "queries"])
            for (model, attack), row in rows.items():
                count = next(iter(row.values())).count
                table.add_row(
                    Text(model, overflow="fold"), Text(attack), *(_share(row[name]) for name in headings), str(count)
                )
            yield table


def _drift(found: Mapping[str, list[Line]]) -> Table:
    """Squared distances of embeddings to the original ones; they are no shares."""
    kinds = [*dict.fromkeys(line.metric for line in _all(found) if line.metric.startswith("drift"))]
    headings = {"drift": "‖φ(x) - φ₀(x)‖²", "drift/attacked": "max ‖φ(z) - φ₀(x)‖²"}
    table = _table("drift", "model", ["images of", *(headings[kind] for kind in kinds)])
    for model, of_model in found.items():
        by_set: dict[str, dict[str, float]] = {}
        for line in of_model:
            if line.metric in kinds:
                by_set.setdefault(line.dataset, {})[line.metric] = line.value
        for dataset, values in by_set.items():
            if dataset != MEAN or len(by_set) > 2:
                table.add_row(Text(model, overflow="fold"), Text(dataset), *(f"{values[kind]:.4g}" for kind in kinds))
    return table


def _table(title: str, first: str, headings: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold", min_width=8)
    for heading in headings:
        table.add_column(Text(heading), justify="right", overflow="fold")
    return table


def _share(line: Line) -> Text:
    """``71.5 % 67.1-75.6``, over two lines where the terminal is narrow."""
    text = Text(f"{100 * line.value:.1f} %".replace(" ", "\N{NO-BREAK SPACE}"))
    if line.low is not None and line.high is not None:
        text.append(f" {100 * line.low:.1f}-{100 * line.high:.1f}", style="dim")
    return text


def _flags(outcomes: Outcomes) -> Iterator[Text]:
    for model, outcome in outcomes.items():
        for flag, sentence in outcome.flags.items():
            yield Text(wording.one_line(f"! {model}: {flag}: {sentence}"), style="yellow")


def as_csv(outcomes: Outcomes) -> str:
    """A header, then one line a number; accuracies are shares in [0, 1], the mean over sets has the data set 'mean'."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [entry.name for entry in fields(Line)]
    writer.writerow(["model", *("class" if name == "classname" else name for name in names)])
    for model, outcome in outcomes.items():
        for line in lines(outcome):
            writer.writerow([model, *(getattr(line, name) for name in names)])
    return text.getvalue()


def as_json(outcomes: Outcomes, facts: Mapping[str, object]) -> str:
    """``facts`` say how it was measured; then each model with its numbers, sample counts and flags."""
    models = [
        {
            "model": model,
            "metrics": outcome.metrics,
            "samples": outcome.samples,
            "flags": outcome.flags,
            "lines": [asdict(line) for line in lines(outcome)],
        }
        for model, outcome in outcomes.items()
    ]
    return json.dumps({**facts, "models": models}, indent=2, ensure_ascii=False) + "\n"
