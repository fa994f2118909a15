"""Parts of certificates as Ray tasks, as many at once as the study's resources allow.

The next hop is ``trainables.certify.measure``, through Ray.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from robustcore.storage import Folder
from sweeps.head import Head
from sweeps.session import tasks_at_once
from sweeps.study import Resources
from trainables.certify import Part, measure


def measured(parts: Sequence[Part], resources: Resources, head: Head | None) -> Iterator[tuple[Part, str]]:
    """Each part as it ends, with a sentence where it failed; the rest of a trial that failed is left out.

    ``head`` may be None where there are no parts. Raises RequestError where nothing of the cluster can hold one,
    HeadLost when the cluster is gone.
    """
    if not parts or head is None:
        return
    import ray

    # Zero calls is no limit: a process that uses a GPU would else end after each part, and its weights with it.
    task = ray.remote(max_calls=0)(measure).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
    at_once, waiting, failed = tasks_at_once(resources), deque(parts), set[str]()
    running: dict[ray.ObjectRef, Part] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            part = waiting.popleft()
            if part.trial not in failed:
                running[task.remote(part)] = part
        if not running:
            return
        ended: list[ray.ObjectRef] = []
        while not ended:
            head.check()
            ended, _ = ray.wait(list(running), num_returns=1, timeout=1)
        part = running.pop(ended[0])
        try:
            failure, trace = ray.get(ended[0])
        except ray.exceptions.RayError as error:  # Ray has tried again before: the processes were lost each time
            failure, trace = f"its process was lost ({' '.join(str(error).split())[:200]})", ""
        if failure:
            failed.add(part.trial)
        yield part, _with_traceback(part, failure, trace)


def _with_traceback(part: Part, failure: str, trace: str) -> str:
    """Only a bug of ours has one."""
    if not trace:
        return failure
    Folder(part.place).write("error.txt", trace.encode())
    return f"{failure} (see {Folder(part.place).at('error.txt').uri})"
