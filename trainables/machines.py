"""Machines that go: whether one is to be left, and whether one is gone. Clouds take them back with a notice or without.

What Ray knows of notices is no part of its public interface, which is why the package is held to one minor release.
"""

import socket

_PATIENCE = 2.0  # seconds


class MachineLeft(Exception):
    """A trial has written a checkpoint and leaves its machine, which goes: it is to be started again elsewhere."""


def here() -> str:
    """The id of the node that this process runs on."""
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node


def is_leaving(node: str) -> bool:
    """Whether it has been given notice: it takes no more work, and is gone soon."""
    from ray._private.state import state

    return node in state.get_draining_nodes()


def is_lost(node: str) -> bool:
    """Whether it is gone, or leaving. The head misses a dead one only after a while, so the node itself is asked."""
    import ray

    found = next((each for each in ray.nodes() if each["NodeID"] == node), None)
    if found is None or not found["Alive"] or is_leaving(node):
        return True
    try:
        socket.create_connection((found["NodeManagerAddress"], found["NodeManagerPort"]), timeout=_PATIENCE).close()
    except OSError:
        return True
    return False
