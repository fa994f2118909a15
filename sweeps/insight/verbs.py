"""The verbs of `sweep` that explain what was found; nothing heavy is imported before one needs it."""

import json

import click

from sweeps.options import folder_of, format_option, print_table, sentences, storage_option, study_argument


@click.command()
@study_argument
@storage_option
@format_option("text", "json")
def importance(study: str, storage: str | None, kind: str) -> None:
    """How much each knob matters for each objective (PED-ANOVA)."""
    from sweeps.insight.importance import importance_json, importance_table, importances
    from sweeps.stored import launched_study, stored_results

    with sentences():
        folder = folder_of(study, storage)
        found, trials = importances(launched_study(folder), stored_results(folder).records.values())
    if kind == "json":
        click.echo(json.dumps(importance_json(found, trials), indent=2))
    else:
        print_table(importance_table(found, trials))


@click.command()
@study_argument
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@storage_option
@format_option("text", "json")
def diff(study: str, first: str, second: str, storage: str | None, kind: str) -> None:
    """What differs between trials A and B: recipes, metrics, states, flags."""
    from sweeps.finished import known_trial
    from sweeps.insight.difference import difference, difference_text

    with sentences():
        folder = folder_of(study, storage)
        pair = (known_trial(folder, first), known_trial(folder, second))
    if kind == "json":
        click.echo(json.dumps(difference(pair), indent=2))
    else:
        print_table(difference_text(pair))
