"""A pool that has no worker at the launch: the first one that comes is looked at while the sweep runs, and told of."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robustcore.storage import Folder
from sweeps.preflight.findings import judged
from sweeps.preflight.nodes import PATIENCE, alive_nodes, ask_nodes
from sweeps.study import Study

_EVERY = 5.0  # seconds between two looks at who is there


@contextmanager
def first_worker(study: Study, say: Callable[[str], object], every: float = _EVERY) -> Iterator[None]:
    """For the length of the block, or until there is one; what is wrong with it is a warning."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(study, say, every, over), name="preflight", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()  # nobody waits for it: a machine may take its time to answer


def _watch(study: Study, say: Callable[[str], object], every: float, over: threading.Event) -> None:
    while not over.wait(every):
        try:
            if all(node.is_head for node in alive_nodes()):
                continue
            folder = Folder(study.storage).at(study.name)
            found = judged(ask_nodes(folder, study, PATIENCE), folder)
        except Exception:  # Ray is going, or storage is away: others tell of it
            return
        for each in found:
            if each.sentence and not over.is_set():
                say(f"warning: {each.sentence}")
        return
