"""A connection to Ray, and how much of a study it can run at once. On this machine only the loopback listens."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweeps.head import Head, head_of
from sweeps.pool import joined_pool, node_patience
from sweeps.stored import RequestError
from sweeps.study import Resources
from trainables.resources import Demand, capacity, cluster_nodes, this_machine

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial without a GPU sees the machine as it is
    "RAY_AIR_NEW_OUTPUT": "0",  # the display is ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our results are the record
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: see ``ending``
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",  # (sic) nodes of an autoscaling pool take their time
}
# Read when Ray is imported: without it, Ray's servers would listen on every network of the machine, and be looked for
# there.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# What the drivers of Ray Train runs must find in their own environment. A run that waited for less long than the
# autoscaler does would give up its place, and ask anew, for as long as machines are slow.
_TRAIN = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": f"{node_patience():g}",
}


@contextmanager
def ray_session(address: str) -> Iterator[Head]:
    """A connection to Ray: a fresh one on the loopback for ``local``, else the cluster at the address."""
    is_local = address == "local" or _is_on_loopback(address)
    for name, value in (_QUIET | (_LOOPBACK if is_local else {})).items():
        os.environ.setdefault(name, value)
    import ray

    environment = {"env_vars": {name: os.environ.get(name, value) for name, value in (_TRAIN | _QUIET).items()}}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by trial, in the results
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "runtime_env": environment}
    head = None
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            node = this_machine()
            local = {"num_cpus": int(node.cpus), "num_gpus": int(node.gpus), "_node_ip_address": "127.0.0.1"}
            ray.init(address="local", include_dashboard=False, **local, **quiet)
        else:
            _join(address, quiet)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray has put its own there
        head = head_of(address)
        yield head
    finally:
        if head is not None:
            head.leave()
        else:
            ray.shutdown()


def _join(address: str, quiet: dict[str, Any]) -> None:
    import ray

    _knock(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError) as error:  # nobody there; another version of Ray or Python
        raise RequestError(f"no Ray cluster to join at '{address}' ({' '.join(str(error).split())[:300]})") from None


def _knock(address: str) -> None:
    """Ray itself goes on trying for minutes where nobody listens."""
    host, port = _parts(address)
    if port and (trouble := _unheard(host, port, within=10)):
        raise RequestError(f"nobody listens at '{address}' ({trouble})")


def _is_on_loopback(address: str) -> bool:
    """Whether a head on this machine listens there alone: Ray looks for it on the machine's own network otherwise."""
    host, port = _parts(address)
    if host not in ("127.0.0.1", "localhost") or not port:
        return False
    own = _own_address()
    return own is None or _unheard(own, port, within=2) is not None


def _parts(address: str) -> tuple[str, int]:
    """Host and port; port 0 where it names none. RequestError where there is no such port."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return address, 0
    if not 0 < int(port) < 2**16:
        raise RequestError(f"port of '{address}': expected 1 to 65535, got {port}")
    return host, int(port)


def _unheard(host: str, port: int, within: float) -> str | None:
    """Why nobody answers there within some seconds; None where somebody does."""
    try:
        socket.create_connection((host, port), timeout=within).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _own_address() -> str | None:
    """Of this machine on its network; None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nothing_is_sent:
        try:
            nothing_is_sent.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(nothing_is_sent.getsockname()[0])


def trials_at_once(resources: Resources) -> int:
    """How many trials run at a time: what the nodes hold, at the most that an autoscaler may start, and no more than
    the study wants. RequestError where not one fits.
    """
    fitting = _fitting(resources, resources.workers, "a trial")
    return min(fitting, resources.at_once or fitting)


def tasks_at_once(resources: Resources) -> int:
    """How many tasks of one worker each run at a time: no more than its trials would. RequestError where none fits."""
    fitting = _fitting(resources, 1, "a task")
    return min(fitting, resources.at_once * resources.workers if resources.at_once else fitting)


def _fitting(resources: Resources, workers: int, what: str) -> int:
    demand, nodes, pool = Demand(workers, resources.cpus, resources.gpus), cluster_nodes(), joined_pool()
    fitting = capacity(demand, nodes)
    if pool is not None:
        fitting = max(fitting, capacity(demand, [*cluster_nodes(heads=True), *pool.machines(demand)]))
    if fitting == 0:
        raise RequestError(
            f"{what} takes {workers} x ({resources.cpus:g} CPUs, {resources.gpus:g} GPUs), and no place has that: the "
            f"nodes have {', '.join(f'{node.cpus:g} CPUs and {node.gpus:g} GPUs' for node in nodes)}"
            + (f"; the cluster grows by no more than {pool}" if pool is not None else "")
        )
    return fitting
