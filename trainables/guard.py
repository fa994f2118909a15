"""Frees what a stopped Ray Train run leaves behind: its placement group, and its demand on the autoscaler.

A trial that Tune stops early dies with its driver, but the placement group of its workers outlives it where the
head has no dashboard, and the autoscaler goes on honouring its request for minutes. The driver therefore notes both
in Ray's key-value store while it runs, and the sweep frees them when the trial has ended. This reaches into internals
of Ray Train, which is why the package is held to one minor release.
"""

import contextlib
import json
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group import WorkerGroup


class NoteHoldings(ControllerCallback, WorkerGroupCallback):  # type: ignore[misc]  # Ray's types are Any here
    """Given to a Ray Train run: notes what it holds under the trial's folder, which is its name in the cluster."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def after_controller_start(self, train_run_context: Any) -> None:
        """Called before the run asks for anything: it may wait for machines for long before it has workers."""
        self._note({"run": train_run_context.run_id})

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Called before a placement group is asked for. A run that sees its group freed would ask for another."""
        if _internal_kv_get(_key("ended", self._folder)):
            raise RuntimeError("the sweep has ended this trial")

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        """Called when the workers are up, also after every restart."""
        group = worker_group.get_worker_group_state().placement_group_handle.placement_group
        self._note({"placement_group": group.id.hex(), "run": worker_group._train_run_context.run_id})

    def _note(self, holdings: dict[str, str]) -> None:
        _internal_kv_put(_key("holdings", self._folder), json.dumps(holdings).encode(), overwrite=True)
        if _internal_kv_get(_key("ended", self._folder)):
            free(self._folder)


def free(folder: str, for_good: bool = True) -> None:
    """Free what the trial still holds, harmless where it holds nothing; ``for_good`` lets it take nothing more."""
    if for_good and _internal_kv_get(_key("holdings", folder)):
        _internal_kv_put(_key("ended", folder), b"1", overwrite=True)
    _free(_key("holdings", folder))


def free_left(study: str) -> None:
    """Free what earlier drivers of the study in this folder have left: a killed one frees nothing itself."""
    own = _key("", "").split(b":")[1]
    for key in _internal_kv_list(b"sweep-holdings:"):
        _, job, folder = key.split(b":", 2)
        if job != own and folder.startswith(f"{study}/".encode()):
            _free(key)


def _free(key: bytes) -> None:
    from ray._raylet import PlacementGroupID
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )
    from ray.util.placement_group import PlacementGroup

    noted = _internal_kv_get(key)
    if not noted:
        return
    _internal_kv_del(key)
    holdings = json.loads(noted)
    if group := holdings.get("placement_group"):
        ray.util.remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group)))
    # The demand lapses by itself after three minutes; a coordinator that does not answer must not hold up the sweep.
    with contextlib.suppress(ray.exceptions.RayError):
        coordinator = get_or_create_autoscaling_coordinator()
        ray.get(coordinator.cancel_request.remote(requester_id=f"train-{holdings['run']}"), timeout=5)


def _key(kind: str, folder: str) -> bytes:
    """Unlike any other sweep's on the cluster: the job is this driver's, and so are its actors."""
    return f"sweep-{kind}:{ray.get_runtime_context().get_job_id()}:{folder}".encode()
