"""What a cluster may grow to, read from autoscalers' configurations, and how many trials its largest state holds."""

import itertools
import json
import subprocess
import sys
import time

import pytest

from sweeps.pool import Pool, configuration, node_patience, of_raycluster, pool_of
from trainables.resources import Demand, Node, capacity

CLUSTER = {
    "head_node_type": "head",
    "max_workers": 6,
    "available_node_types": {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "one": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 8},
        "four": {"resources": {"CPU": 16, "GPU": 4}, "max_workers": 2},
        "plain": {"resources": {"CPU": 4}, "max_workers": 4},
    },
}


def changed(**changes):
    return {**CLUSTER, **changes}


@pytest.mark.parametrize(
    ("demand", "fits"),
    [
        (Demand(gpus=1, cpus=4), 12),  # both of four GPUs, and four of one
        (Demand(gpus=2, cpus=4), 4),  # two machines of one GPU each hold no worker that takes two
        (Demand(workers=2, gpus=1, cpus=4), 6),
        (Demand(workers=3, gpus=2, cpus=4), 1),
        (Demand(gpus=8, cpus=1), 0),
        (Demand(gpus=0.5, cpus=2), 24),  # as many as there are GPUs twice: 8, 8 and 2 for each of four more
        (Demand(cpus=16), 2),
    ],
)
def test_as_many_trials_fit_as_the_machines_hold_that_may_be_there_at_once(demand, fits):
    assert capacity(demand, pool_of(CLUSTER).machines(demand)) == fits


@pytest.mark.parametrize("at_most", [0, 1, 3, 7, 14])
@pytest.mark.parametrize("demand", [Demand(), Demand(gpus=1), Demand(gpus=0.3, cpus=3), Demand(workers=2, cpus=5)])
def test_no_other_choice_of_machines_holds_more(at_most, demand):
    pool = pool_of(changed(max_workers=at_most))
    counts = [range(kind.at_most + 1) for kind in pool.kinds]
    best = 0
    for chosen in itertools.product(*counts):
        if sum(chosen) <= at_most:
            nodes = [k.node for k, count in zip(pool.kinds, chosen, strict=True) for _ in range(count)]
            best = max(best, capacity(demand, nodes))
    assert capacity(demand, pool.machines(demand)) == best


def test_the_head_counts_as_a_kind_only_where_it_may_have_equals():
    assert [kind.name for kind in pool_of(CLUSTER).kinds] == ["one", "four", "plain"]
    alone = {"head_node_type": "all", "available_node_types": {"all": {"resources": {"CPU": 2}, "max_workers": 3}}}
    assert pool_of(alone).machines(Demand()) == [Node(2, 0)] * 3


def test_a_pool_is_said_in_words_and_with_its_limit():
    assert str(pool_of(changed(max_workers=14))) == (
        "8 x one (8 CPUs, 1 GPUs) and 2 x four (16 CPUs, 4 GPUs) and 4 x plain (4 CPUs, 0 GPUs)"
    )
    assert str(pool_of(CLUSTER)).startswith("6 of 8 x one")
    assert str(Pool((), 0)) == "no machine"


def group(name, most, limits, hosts=1):
    container = {"name": "ray", "resources": {"limits": limits, "requests": limits}}
    template = {"spec": {"containers": [container]}}
    return {"groupName": name, "minReplicas": 0, "maxReplicas": most, "numOfHosts": hosts, "template": template}


RAYCLUSTER = {
    "metadata": {"name": "sweeps", "namespace": "ml"},
    "spec": {
        "enableInTreeAutoscaling": True,
        "headGroupSpec": group("head", 0, {"cpu": "4", "memory": "8Gi"}) | {"rayStartParams": {"num-cpus": "0"}},
        "workerGroupSpecs": [group("l4", 8, {"cpu": "7500m", "nvidia.com/gpu": "1"}), group("a100", 2, {"cpu": "12"})],
    },
}


def test_kuberays_resource_tells_the_same():
    found = of_raycluster(RAYCLUSTER)
    assert found is not None
    assert str(pool_of(found)) == "8 x l4 (8 CPUs, 1 GPUs) and 2 x a100 (12 CPUs, 0 GPUs)"


def test_a_raycluster_that_does_not_grow_has_no_pool():
    assert of_raycluster({**RAYCLUSTER, "spec": RAYCLUSTER["spec"] | {"enableInTreeAutoscaling": False}}) is None


@pytest.mark.parametrize("kind", ["v2", "_private"])
def test_the_configuration_is_that_of_the_autoscaler_of_this_head_and_of_no_other(kind, tmp_path):
    """A process that is called as Ray calls its autoscalers, old and new, stands for one."""
    monitor = tmp_path / "autoscaler" / kind / "monitor.py"
    monitor.parent.mkdir(parents=True)
    monitor.write_text("input()")
    path = tmp_path / "cluster.yaml"
    path.write_text(json.dumps(CLUSTER))
    command = [sys.executable, "-u", monitor, "--gcs-address=127.0.0.1:1", f"--autoscaling-config={path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as stand_in:
        try:
            deadline = time.monotonic() + 10
            while (found := configuration(1)) is None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert found == CLUSTER
            assert configuration(2) is None
        finally:
            stand_in.kill()


def test_a_trial_waits_for_a_machine_longer_than_the_autoscaler_does(monkeypatch):
    from ray.autoscaler.v2.instance_manager.config import InstanceReconcileConfig

    known = InstanceReconcileConfig()
    assert node_patience() == (
        known.request_status_timeout_s + known.allocate_status_timeout_s + known.ray_install_status_timeout_s
    )
    monkeypatch.setenv("RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S", "7200")
    assert node_patience() == 600 + 7200 + 1800
