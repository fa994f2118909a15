"""A cluster is looked at before the first trial: every machine that is up, by tasks that are pinned to it.

What an hour of the pool could be lost to is a sentence that says what to do; ``--force`` goes on in spite of it.
"""

import click

from robustcore.storage import Folder
from sweeps.options import print_table
from sweeps.preflight.findings import Finding, judged
from sweeps.preflight.nodes import PATIENCE, alive_nodes, ask_nodes
from sweeps.preflight.services import pool_finding, tracking_finding
from sweeps.stored import RequestError
from sweeps.study import Study


def inspect_cluster(study: Study, force: bool) -> bool:
    """Of the Ray that this process is connected to; whether there were workers to look at.

    Raises RequestError with all that is wrong, unless ``force``.
    """
    found = findings(study)
    print_table(_table(found))
    sentences = [each.sentence for each in found if each.sentence]
    if sentences and not force:
        raise RequestError("\n".join([*sentences, "Nothing was started; --force goes on all the same."]))
    for sentence in sentences:
        click.echo(f"warning: {sentence}", err=True)
    return any(not node.is_head for node in alive_nodes())


def findings(study: Study, patience: float = PATIENCE) -> list[Finding]:
    """One a question, in the order of the table; machines have ``patience`` seconds to answer."""
    folder = Folder(study.storage).at(study.name)
    nodes = ask_nodes(folder, study, patience)
    return [*judged(nodes, folder), pool_finding(study), tracking_finding(study)]


def _table(found: list[Finding]) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table("the cluster", "", "found")
    for each in found:
        table.add_row(each.question, Text("failed", "red") if each.sentence else Text("ok", "green"), each.answer)
    return table
