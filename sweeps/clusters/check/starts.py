"""The commands that start Ray: each machine joins, the pool grows, and every option is one that Ray knows."""

import re
from collections.abc import Iterator

from sweeps.clusters.check.shape import shapes
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, list_at
from sweeps.source import did_you_mean

_START = re.compile(r"\bray\s+start\b([^;&|]*)")
_OPTION = re.compile(r"(?<!\S)--([\w-]+)")
_NEEDED = {
    "head_start_ray_commands": {
        "head": "it is the head that the others join",
        "autoscaling-config": "without it the pool never grows",
    },
    "worker_start_ray_commands": {"address": "without it a worker starts a cluster of its own"},
}


def start_faults(document: Document) -> Iterator[Fault]:
    """Of a file for `ray up`."""
    if document.kind != LAUNCHER:
        return
    known = [*shapes("kubernetes")["RayStart"], "verbose"]
    for section, needed in _NEEDED.items():
        starts = [
            (position, match[1])
            for position, command in enumerate(list_at(document.value, section))
            if isinstance(command, str)
            for match in _START.finditer(command)
        ]
        if not starts:
            if section in document.value:
                yield (
                    (section,),
                    "no command starts Ray; expected `ray start "
                    + "".join(f"--{option} " for option in needed)
                    + "...`",
                )
            continue
        for position, options in starts:
            for option in _OPTION.findall(options):
                if option not in known:
                    yield (section, position), f"`ray start` has no option --{option}{did_you_mean(option, known)}"
        given = {option for _, options in starts for option in _OPTION.findall(options)}
        for option, why in needed.items():
            if option not in given:
                yield (section, starts[-1][0]), f"`ray start` lacks --{option}: {why}"
