"""The commands that start Ray: each machine joins, the pool grows, and every option is one that Ray knows."""

import re
from collections.abc import Iterator

from sweeps.clusters.check.commands import options_in, unknown_options
from sweeps.clusters.check.shape import shapes
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, list_at

_START = re.compile(r"\bray\s+start\b([^;&|]*)")
_PORT = re.compile(r"(?<!\S)--port[= ]['\"]?(\d+)")
_ADDRESS = re.compile(r"(?<!\S)--address[= ]['\"]?([^\s'\"]+)")
_GCS = "6379"  # Ray's own choice
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
        starts = _starts(document, section)
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
            for sentence in unknown_options("ray start", options, known):
                yield (section, position), sentence
        given = {option for _, options in starts for option in options_in(options)}
        for option, why in needed.items():
            if option not in given:
                yield (section, starts[-1][0]), f"`ray start` lacks --{option}: {why}"
    yield from _meeting(document)


def _meeting(document: Document) -> Iterator[Fault]:
    """Whether workers look for the head where it listens, as far as that can be read."""
    starts = _starts(document, "head_start_ray_commands")
    given = [match[1] for _, options in starts for match in _PORT.finditer(options)]
    port = given[-1] if given else _GCS
    for position, options in _starts(document, "worker_start_ray_commands"):
        for match in _ADDRESS.finditer(options):
            host, _, door = match[1].rpartition(":")
            is_wrong = "$" in host and "RAY_HEAD_IP" not in host
            if is_wrong or (door.isdigit() and door != port):
                keys = ("worker_start_ray_commands", position)
                yield keys, f"the head is not there: expected --address=$RAY_HEAD_IP:{port}, got {match[1]}"


def _starts(document: Document, section: str) -> list[tuple[int, str]]:
    """Which command starts Ray, and with what options."""
    return [
        (position, match[1])
        for position, command in enumerate(list_at(document.value, section))
        if isinstance(command, str)
        for match in _START.finditer(command)
    ]
