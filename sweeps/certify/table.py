"""A certification as people and programs read it: searched and certified side by side, who fell, and the flags."""

import json
from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from robustcore.intervals import metric_interval
from sweeps.certified import heading
from sweeps.certify import Certification
from sweeps.report import wording


def certified_table(done: Certification) -> Table:
    """One line a trial that has a certificate; intervals are of 95 %."""
    records = done.certified
    names = [
        name for name in done.study.objectives if any(name in r.certificate.metrics for r in records if r.certificate)
    ]
    table = Table("trial", caption=_images(done), caption_justify="left")
    for name in names:
        attacks = [r.certificate.attacks for r in records if r.certificate]
        table.add_column(Text(name), justify="right")
        table.add_column(Text(heading(name, attacks[0])), justify="right", style="bold")
    table.add_column("front")
    for record in records:
        assert record.certificate is not None, "these have one"
        cells = []
        for name in names:
            cells.append(_cell(name, record.metrics, record.samples))
            cells.append(_cell(name, record.certificate.metrics, record.certificate.samples))
        table.add_row(record.trial, *cells, done.moved(record.trial))
    return table


def _images(done: Certification) -> str:
    samples = next((record.certificate.samples for record in done.certified if record.certificate), {})
    return "certified on " + ", ".join(f"{count} images of {name}" for name, count in samples.items())


def _cell(name: str, metrics: Mapping[str, float], samples: Mapping[str, int]) -> Text:
    if name not in metrics:
        return Text("-")
    interval = metric_interval(name, metrics, samples)
    shown = wording.metric(name, metrics[name])
    return Text(shown if interval is None else f"{shown} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]")


def remarks(done: Certification) -> Iterator[str]:
    """A sentence for each trial that fell off the front, and for each flag."""
    yield from (f"trial {trial} fell off the front: {why}" for trial, why in done.fallen().items())
    for record in done.certified:
        flags = record.certificate.flags if record.certificate else {}
        yield from (f"trial {record.trial}: {name}: {sentence}" for name, sentence in flags.items())


def problems(done: Certification) -> Iterator[str]:
    """A sentence for each trial without a certificate, and what MLflow has not heard."""
    yield from (f"trial {trial} could not be certified: {why}" for trial, why in done.failures.items())
    if done.warning:
        yield f"warning: {done.warning}"


def certified_json(done: Certification) -> str:
    """A list of ``TrialRecord.as_json()``, each with ``fallen``: why it is on the front no more, or ""."""
    fallen = done.fallen()
    rows = [record.as_json() | {"fallen": fallen.get(record.trial, "")} for record in done.certified]
    return json.dumps(rows, indent=2)
