"""Each planted mistake in a manifest is one sentence at its line; the shipped manifests have none."""

import os
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sweeps.clusters.check import check_documents
from sweeps.clusters.check.shape import shapes
from sweeps.clusters.check.timing import DEFAULT_START_SECONDS, START_TIMEOUT
from sweeps.clusters.manifest import read_manifest
from sweeps.clusters.render import rendered
from sweeps.clusters.shipped import FILES, shipped_path
from sweeps.stored import RequestError
from tests.sweeps.manifests import OF, checked, filled

if TYPE_CHECKING:
    from sweeps.study import Study

DEFINITIONS = Path(os.environ.get("SWEEP_KUBERAY_DEFINITIONS", "no definitions"))
LAUNCHERS, KUBERAY = ("aws", "gcp"), ("kuberay", "job")
POOLS = (*LAUNCHERS, *KUBERAY)


@dataclass(frozen=True)
class Mistake:
    """A change in the text of each of the manifests, and what must be said at the line that it changes."""

    manifests: tuple[str, ...]
    before: str
    after: str
    said: str
    elsewhere: str = ""  # part of the line where it is said, where that is not the changed one


MISTAKES = [
    # Keys that are misspelt, at any depth.
    Mistake(LAUNCHERS, "idle_timeout_minutes: 12", "idle_timeout_minute: 12", "did you mean 'idle_timeout_minutes'?"),
    Mistake(LAUNCHERS, "  use_internal_ips:", "  use_internal_ip:", "did you mean 'use_internal_ips'?"),
    Mistake(LAUNCHERS, "    min_workers: 0", "    min_worker: 0", "did you mean 'min_workers'?"),
    Mistake(LAUNCHERS, "  pull_before_run:", "  pull_before_runs:", "did you mean 'pull_before_run'?"),
    Mistake(
        ("aws",), "      InstanceMarketOptions:", "      InstanceMarketOption:", "did you mean 'InstanceMarketOptions'?"
    ),
    Mistake(("aws",), "{VolumeSize: 150", "{VolumSize: 150", "did you mean 'VolumeSize'?"),
    Mistake(("aws",), "{MarketType: spot}", "{MarketTyp: spot}", "did you mean 'MarketType'?"),
    Mistake(("gcp",), "provisioningModel: SPOT", "provisionigModel: SPOT", "did you mean 'provisioningModel'?"),
    Mistake(("gcp",), "diskSizeGb: 150", "diskSizeGB: 150", "did you mean 'diskSizeGb'?"),
    Mistake(KUBERAY, "maxReplicas: 8", "maxReplica: 8", "did you mean 'maxReplicas'?"),
    Mistake(KUBERAY, "idleTimeoutSeconds: 720", "idleTimeoutSecond: 720", "did you mean 'idleTimeoutSeconds'?"),
    Mistake(KUBERAY, "restartPolicy: Never", "restartPolicies: Never", "did you mean 'restartPolicy'?"),
    Mistake(KUBERAY, "nodeSelector:", "nodeSelectors:", "did you mean 'nodeSelector'?"),
    Mistake(KUBERAY, "enableInTreeAutoscaling: true", "enableInTreeAutoscalling: true", "did you mean 'enableInTreeAu"),
    Mistake(KUBERAY, "policyTypes:", "policyType:", "did you mean 'policyTypes'?"),
    Mistake(
        ("job",), "shutdownAfterJobFinishes:", "shutdownAfterJobFinish:", "did you mean 'shutdownAfterJobFinishes'?"
    ),
    Mistake(("job",), "submissionMode:", "submisionMode:", "did you mean 'submissionMode'?"),
    Mistake(("mlflow",), "volumeClaimTemplates:", "volumeClaimTemplate:", "did you mean 'volumeClaimTemplates'?"),
    Mistake(("mlflow",), "kind: StatefulSet", "kind: StatefullSet", "did you mean 'StatefulSet'?"),
    # Values of another type, keys that are missing, keys that stand twice.
    Mistake(LAUNCHERS, "max_workers: 8", 'max_workers: "8"', "expected a whole number, got '8'"),
    Mistake(LAUNCHERS, "cache_stopped_nodes: false", "cache_stopped_nodes: 0", "expected true or false"),
    Mistake(LAUNCHERS, "resources: {CPU: 2}", "resources: {CPU: 2.5}", "expected a whole number"),
    Mistake(KUBERAY, "minReplicas: 0", 'minReplicas: "0"', "expected a whole number, got '0'"),
    Mistake(KUBERAY, 'STATS_ENABLED, value: "0"', "STATS_ENABLED, value: 0", "expected text, got the number 0"),
    Mistake(KUBERAY, "upscalingMode: Default", "upscalingMode: default", "did you mean 'Default'?"),
    Mistake(LAUNCHERS, "cluster_name: sweeps\n", "", "cluster_name: missing key", "max_workers: 8"),
    Mistake(LAUNCHERS, "idle_timeout_minutes: 12\n", "", "idle_timeout_minutes: missing key", "cluster_name"),
    Mistake(KUBERAY, "groupName: l4", "priority: 1", "groupName: missing key"),
    Mistake(LAUNCHERS, "max_workers: 8", "max_workers: 8\nmax_workers: 9", "the key stands twice", "max_workers: 9"),
    # What a cluster that nobody else gets into needs.
    Mistake(LAUNCHERS, "    - -e RAY_AUTH_MODE=token\n", "", "no authentication", "run_options:"),
    Mistake(LAUNCHERS, "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "no authentication", "run_options:"),
    Mistake(LAUNCHERS, "  /home/ray/.ray/auth_token: ~/.ray/auth_token\n", "", "no token reaches", "file_mounts:"),
    Mistake(LAUNCHERS, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "dashboard would listen", "- >-"),
    Mistake(LAUNCHERS, "--host=127.0.0.1", "--host=0.0.0.0", "MLflow would listen", "- >-"),
    Mistake(KUBERAY, "mode: token", "mode: disabled", "expected 'token', got 'disabled'"),
    Mistake(KUBERAY, "{0}  authOptions:\n{0}    mode: token\n", "", "no authentication", "pec:"),
    Mistake(KUBERAY, "serviceType: ClusterIP", "serviceType: LoadBalancer", "leads from outside"),
    Mistake(KUBERAY, "serviceType: ClusterIP", "enableIngress: true", "leads from outside"),
    Mistake(KUBERAY, "terminationGracePeriodSeconds: 25", "hostNetwork: true", "node's own network"),
    Mistake(("mlflow",), "type: ClusterIP", "type: NodePort", "leads from outside"),
    Mistake(LAUNCHERS, "use_internal_ips: true", "use_internal_ips: false", "public addresses"),
    Mistake(
        ("gcp",), "- subnetwork:", "- accessConfigs: [{type: ONE_TO_ONE_NAT}]\n          subnetwork:", "a public add"
    ),
    Mistake(("aws",), "HttpTokens: required", "HttpTokens: optional", "gets its role; expected required"),
    Mistake(
        KUBERAY,
        'STATS_ENABLED, value: "0"',
        "STATS_ENABLED, value: x}\n{0}              - {name: RAY_AUTH_MODE, value: off",
        "got 'off'",
        "value: off",
    ),
    Mistake(KUBERAY, "policyTypes: [Ingress]", "policyTypes: [Egress]", "everybody is let in: expected Ingress"),
    Mistake(
        KUBERAY,
        "    - from:\n        - podSelector:\n            matchLabels: {app",
        "    - from:\n        - ipBlock: {cidr: 0.0.0.0/0}\n        - podSelector:\n            matchLabels: {app",
        "let in; expected pods of your own",
    ),
    Mistake(
        KUBERAY,
        "podSelector:\n    matchLabels: {app: sw",
        "podSelector:\n    matchLabels: {app: other-sw",
        "selects no pod",
        "podSelector:",
    ),
    Mistake(
        KUBERAY,
        "{0}      labels: {app: sweep",
        "{0}      labels: {app: sweeep",
        "about these pods, as about the others",
    ),
    Mistake(("mlflow",), "selector: {app: mlflow}", "selector: {app: mlfow}", "selects no pod of this file"),
    Mistake(
        ("mlflow",),
        "selector:\n    matchLabels: {app: mlflow-db}",
        "selector:\n    matchLabels: {app: mlflow-dv}",
        "the StatefulSet's own pods",
        "selector:",
    ),
    # More rights than a sweep needs.
    Mistake((*KUBERAY, "mlflow"), "allowPrivilegeEscalation: false", "privileged: true", "owns the node"),
    Mistake(
        (*KUBERAY, "mlflow"), "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "more rights than"
    ),
    Mistake((*KUBERAY, "mlflow"), "runAsNonRoot: true", "runAsNonRoot: false", "lets it run as root"),
    Mistake((*KUBERAY, "mlflow"), "runAsUser: ", "runAsUser: 0 # ", "0 is root"),
    Mistake((*KUBERAY, "mlflow"), "capabilities: {drop: [ALL]}", "capabilities: {add: [SYS_ADMIN]}", "as good as root"),
    Mistake(KUBERAY, "terminationGracePeriodSeconds: 25", "hostPID: true", "shares with the node"),
    # Secrets in plain text.
    Mistake(
        LAUNCHERS,
        "RAY_USAGE_STATS_ENABLED=0",
        "MLFLOW_TRACKING_PASSWORD=hunter2",
        "MLFLOW_TRACKING_PASSWORD stands here",
    ),
    Mistake(
        LAUNCHERS, "setup_commands: []", "setup_commands: [export AWS_SECRET_ACCESS_KEY=abc]", "AWS_SECRET_ACCESS_KEY"
    ),
    Mistake(KUBERAY, 'RAY_USAGE_STATS_ENABLED, value: "0"', "HF_TOKEN, value: abc", "the secret HF_TOKEN stands here"),
    Mistake(("mlflow",), "$(POSTGRES_PASSWORD)", "hunter2", "a password in an address stands here"),
    # One version of everything.
    Mistake(
        POOLS, "image: registry.example.com/team/sweeps:1.4.0", "image: rayproject/ray:latest-gpu", "stays what it is"
    ),
    Mistake(
        POOLS, "image: registry.example.com/team/sweeps:1.4.0", "image: registry.example.com/sweeps", "stays what it is"
    ),
    Mistake(
        LAUNCHERS,
        "team/sweeps:1.4.0\n  container",
        "team/sweeps:1.4.0\n  worker_image: registry.example.com/team/sweeps:1.3.0\n  container",
        "expected registry.example.com/team/sweeps:1.4.0",
        "1.3.0",
    ),
    Mistake(
        LAUNCHERS,
        "image: registry.example.com/team/sweeps:1.4.0",
        "image: rayproject/ray:2.9.0-py311",
        "expected Ray 2.60",
    ),
    Mistake(LAUNCHERS, "\nsetup_commands: []", "", "a nightly build", "cluster_name"),
    Mistake(LAUNCHERS, "\nsetup_commands: []", "\nsetup_commands: [pip install ray]", "any version of it"),
    Mistake(LAUNCHERS, "\nsetup_commands: []", "\nsetup_commands: [pip install ray==2.9.3]", "installs Ray as 2.9.3"),
    Mistake(KUBERAY, "rayVersion: 2.60.0", "rayVersion: 2.52.0", "the Ray of this installation, got 2.52.0"),
    # Waits that are shorter than a machine takes to start.
    Mistake(
        LAUNCHERS,
        "idle_timeout_minutes: 12",
        "idle_timeout_minutes: 5",
        "the 8 minutes that a machine takes to start (metadata.node_start_minutes in this file), got 5 minutes",
    ),
    Mistake(LAUNCHERS, "node_start_minutes: 8", "node_start_minutes: 15", "the 15 minutes", "idle_timeout_minutes"),
    Mistake(LAUNCHERS, "    min_workers: 0", "    idle_timeout_s: 60", "got 1 minutes"),
    Mistake(
        KUBERAY,
        "idleTimeoutSeconds: 720\n{0}      rayStart",
        "idleTimeoutSeconds: 60\n{0}      rayStart",
        "got 1 minutes",
    ),
    Mistake(LAUNCHERS, "RAY_USAGE_STATS_ENABLED=0", f"{START_TIMEOUT}=60", "480 seconds, got 60"),
    Mistake(KUBERAY, 'RAY_USAGE_STATS_ENABLED, value: "0"', f'{START_TIMEOUT}, value: "60"', "480 seconds, got 60"),
    Mistake(LAUNCHERS, "node_start_minutes: 8", "node_start_minutes: 120", "would not wait for their machines (6000"),
    Mistake(
        KUBERAY,
        "idleTimeoutSeconds: 720\n{0}    resources",
        "idleTimeoutSeconds: 60\n{0}    resources",
        "got 1 minutes",
    ),
    # Numbers and sizes that contradict each other.
    Mistake(LAUNCHERS, "    min_workers: 0", "    min_workers: -1", "expected at least 0, got -1"),
    Mistake(LAUNCHERS, "max_workers: 8", "max_workers: 0", "can never have a worker"),
    Mistake(("aws",), "{VolumeSize: 150", "{VolumeSize: 20", "no room for the image"),
    Mistake(("gcp",), "diskSizeGb: 150", "diskSizeGb: 20", "no room for the image"),
    Mistake(
        (*KUBERAY, "mlflow"),
        "limits: {cpu: ",
        'limits: {cpu: 1m, ephemeral-storage: 1Gi} # "',
        "more than its limit, 1m",
        "requests",
    ),
    Mistake(
        KUBERAY,
        'requests: {cpu: "6", memory: 24Gi, nvidia.com/gpu',
        'requests: {cpu: "6", memory: 24Gi, nvidia.com/gpus',
        "did you mean 'nvidia.com/gpu'?",
    ),
    Mistake(KUBERAY, 'nvidia.com/gpu: "1"}', 'nvidia.com/gpu: "2"}', "a device is given whole"),
    Mistake((*KUBERAY, "mlflow"), "requests: {cpu: ", "requests: {cpus: ", "did you mean 'cpu'?"),
    Mistake(KUBERAY, "memory: 16Gi", "memory: 16GiB", "expected a quantity such as"),
    Mistake(KUBERAY, "groupName: a100", "groupName: l4", "'l4' stands twice"),
    Mistake(KUBERAY, "groupName: a100", "groupName: A100_40", "expected a name of small letters"),
    Mistake(KUBERAY, "{name: shm, mountPath", "{name: shn, mountPath", "did you mean 'shm'?"),
    Mistake(KUBERAY, "dashboard-host:", "dashboard-hots:", "did you mean 'dashboard-host'?"),
    # What a cloud does not have, or would not start.
    Mistake(LAUNCHERS, "cluster_name: sweeps", "cluster_name: my sweeps", "cluster_name: expected"),
    Mistake(("aws",), "region: us-west-2", "region: us-west2", "a region such as us-west-2, got"),
    Mistake(("gcp",), "region: us-central1", "region: us-central-1", "a region such as us-central1, got"),
    Mistake(("gcp",), "zone: us-central1-a", "zone: us-east1-b", "expected a zone of the region us-central1"),
    Mistake(("aws",), "InstanceType: g5.2xlarge", "InstanceType: g5.2xlrge", "a machine such as"),
    Mistake(("aws",), "ImageId: ami-", "ImageId: amii-", "an image such as"),
    Mistake(("gcp",), "onHostMaintenance: TERMINATE", "onHostMaintenance: MIGRATE", "cannot move a machine with GPUs"),
    Mistake(LAUNCHERS, "--autoscaling-config=", "--autoscaling-confg=", "did you mean 'autoscaling-config'?", "- >-"),
    Mistake(LAUNCHERS, "\n    --autoscaling-config=~/ray_bootstrap_config.yaml", "", "the pool never grows", "- >-"),
    Mistake(
        LAUNCHERS, "ray start --address", "ray strt --address", "no command starts Ray", "worker_start_ray_commands"
    ),
    Mistake(LAUNCHERS, "ray start --address=$RAY_HEAD_IP:6379", "ray start", "a cluster of its own", "- >-"),
    Mistake(
        ("aws",),
        "ImageId: ami-0123456789abcdef0\n",
        "ImageId: ami-0123456789abcdef0\n      InstanceMarketOptions: {MarketType: spot}\n",
        "got spot",
    ),
    Mistake(
        ("gcp",),
        "machineType: n2-standard-8\n",
        "machineType: n2-standard-8\n      scheduling: {provisioningModel: SPOT}\n",
        "got spot",
    ),
    Mistake(KUBERAY, "gke-provisioning: standard", 'gke-spot: "true"', "got a spot node"),
    Mistake(
        LAUNCHERS,
        "    min_workers: 0",
        "    min_workers: 9",
        "expected at least the sum of all min_workers, 9, got 8",
        "max_workers: 8",
    ),
    Mistake(LAUNCHERS, "head_node_type: head", "head_node_type: haed", "did you mean 'head'?"),
    Mistake(LAUNCHERS, "resources: {CPU: 2}", "resources: {CPU: 0}", "the head has no CPU"),
    Mistake(LAUNCHERS, "resources: {CPU: 8, GPU: 1}", "resources: {CPU: 8, GPU: 4}", "has 1 GPUs, got 4"),
    Mistake(KUBERAY, 'num-cpus: "2"', 'num-cpus: "0"', "the head has no CPU"),
    Mistake(KUBERAY, "minReplicas: 0", "minReplicas: 9", "expected at least minReplicas, 9, got 8", "maxReplicas: 8"),
    Mistake(KUBERAY, "medium: Memory", "medium: memory", "did you mean 'Memory'?"),
    Mistake(KUBERAY, "mountPath: /dev/shm", "mountPath: dev/shm", "expected a path from the root"),
    Mistake(KUBERAY, "containerPort: 8265", "containerPort: 82650", "expected a port from 1 to 65535, got"),
    Mistake((*KUBERAY, "mlflow"), "protocol: TCP, port: ", "protocol: TCP, port: 9", "or its name, got"),
    Mistake(KUBERAY, "name: ray-head", "name: Ray_Head", "small letters, digits and -"),
    Mistake(KUBERAY, "type: RuntimeDefault", "type: Unconfined", "leaves open every call"),
    Mistake(KUBERAY, "GracePeriodSeconds: 25", "GracePeriodSeconds: 0", "no time for a checkpoint"),
    Mistake(
        ("kuberay",), "serviceAccountName: sweeps-w", "serviceAccountName: sweep-w", "did you mean 'sweeps-worker'?"
    ),
    Mistake(("job",), "configMap: {name: sweep-run}", "configMap: {name: sweeprun}", "did you mean 'sweep-run'?"),
    Mistake(
        KUBERAY,
        'requests: {cpu: "6", memory: 24Gi, nvidia.com/gpu: "1"}\n{0}'
        '                limits: {cpu: "6", memory: 24Gi, nvidia.com/gpu: "1"}',
        'requests: {cpu: "6"}',
        "no container's limits ask for one",
        "gke-accelerator: nvidia-l4",
    ),
    Mistake(("aws",), "region: us-west-2", "region: us-wset-2", "a region such as us-west-2, got"),
    Mistake(("aws",), "VolumeType: gp3", "VolumeType: gp33", "did you mean 'gp3'?"),
    Mistake(LAUNCHERS, "--address=$RAY_HEAD_IP:6379", "--address=$RAY_HEAD:6379", "the head is not there", "- >-"),
    Mistake(LAUNCHERS, "--address=$RAY_HEAD_IP:6379", "--address=$RAY_HEAD_IP:6380", "the head is not there", "- >-"),
    Mistake(("gcp",), "automaticRestart: false", "automaticRestart: true", "starts no spot machine again"),
    Mistake(("gcp",), "regions/us-central1/", "regions/us-east1/", "expected a subnet of the region us-central1"),
    Mistake(LAUNCHERS, "  - ray stop", "  - ray stpo", "did you mean 'stop'?"),
    Mistake(LAUNCHERS, "--host=127.0.0.1", "--hst=127.0.0.1", "`mlflow server` has no option --hst", "- >-"),
    Mistake(("mlflow",), "--workers=2", "--wrokers=2", "did you mean 'workers'?"),
    Mistake(("mlflow",), "serviceName: mlflow-db", "serviceName: mlflow-bd", "there is no Service 'mlflow-bd'"),
    Mistake(("mlflow",), "targetPort: 5000", "targetPort: 500", "expected one of 5000, http"),
    Mistake(("job",), "exec sweep launch", "exec sweep lanch", "did you mean 'launch'?", "run.sh"),
    Mistake(("job",), "--address auto", "--adress auto", "did you mean 'address'?", "run.sh"),
    Mistake(("job",), "storage=s3://", "storage=/home/ray/", "on the head's own disk", "run.sh"),
    Mistake(("job",), "run.sh: |", "runs.sh: |", "has no 'run.sh', which this runs; did you", "entrypoint"),
    Mistake(("job",), "mountPath: /home/ray/run}", "mountPath: /home/ray/study}", "stands twice in volumeMounts"),
    Mistake(("job",), "submits-to: sweep}\n    spec", "submits-to: sweeps}\n    spec", "would never begin"),
    Mistake(("job",), "AfterFinished: 600", "AfterFinished: -1", "a whole number from 0, got"),
    Mistake(("job",), "DeadlineSeconds: 1800", "DeadlineSeconds: 300", "before its head could start"),
    Mistake(
        ("job",),
        "restartPolicy: Never\n      securityContext",
        "restartPolicy: Always\n      securityContext",
        "refuses it of a job",
    ),
    # What keeps a pool from growing, shrinking or ending.
    Mistake(
        KUBERAY, "enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false", "the pool would keep its first size"
    ),
    Mistake(KUBERAY, "version: v2", "version: v1", "v1 keeps idle GPU machines"),
    Mistake(
        KUBERAY,
        "restartPolicy: Never\n{0}          serviceAccount",
        "restartPolicy: Always\n{0}          serviceAccount",
        "expected Never, got Always",
    ),
    Mistake(
        ("job",), "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false", "the cluster would stay when"
    ),
    Mistake(("job",), "bash /home/ray/run/run.sh", "sweep launch s --storage /tmp/runs", "the head's own disk"),
]


CASES = [
    pytest.param(manifest, mistake, id=f"{manifest}-{mistake.after.strip() or 'no ' + mistake.before.strip()}"[:70])
    for mistake in MISTAKES
    for manifest in mistake.manifests
]


@pytest.fixture(scope="module")
def sound() -> dict[str, str]:
    return {manifest: filled(manifest) for manifest in FILES}


@pytest.mark.parametrize(("manifest", "mistake"), CASES)
def test_a_planted_mistake_is_one_sentence_at_its_line(
    sound: dict[str, str], manifest: str, mistake: Mistake, tmp_path: Path
) -> None:
    deeper = "  " if manifest == "job" else ""
    before, after = (part.replace("{0}", deeper) for part in (mistake.before, mistake.after))
    assert before in sound[manifest], "the mistake is planted"
    text = sound[manifest].replace(before, after, 1)
    problems = checked(tmp_path, text)
    found = [problem for problem in problems if mistake.said in str(problem)]
    assert len(found) == 1, problems
    assert len(problems) <= 2, "a misspelt key may also be missed"
    lines = text.splitlines()
    if mistake.elsewhere:
        assert mistake.elsewhere in lines[found[0].line - 1]
    else:
        pairs = zip(lines, sound[manifest].splitlines(), strict=False)
        changed = next(number for number, (new, old) in enumerate(pairs, 1) if new != old)
        assert found[0].line == changed
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize("manifest", FILES)
def test_a_shipped_manifest_has_no_mistake_but_its_open_fields(manifest: str, tmp_path: Path) -> None:
    assert checked(tmp_path, filled(manifest)) == []
    text, _ = rendered(manifest)
    assert text == shipped_path(manifest).read_text(), "as it is, where nobody wishes anything"
    problems = checked(tmp_path, text)
    named = {
        field for field in OF[manifest] if any(f"the field __{field.upper()}__ is not" in str(p) for p in problems)
    }
    assert named == set(OF[manifest])
    assert all("is not filled in" in problem.message for problem in problems)


@pytest.mark.skipif(
    not DEFINITIONS.is_dir(), reason="SWEEP_KUBERAY_DEFINITIONS names no folder of KubeRay's definitions"
)
def test_kuberays_own_definitions_agree_with_ours(sound: dict[str, str], tmp_path: Path) -> None:
    text = sound["kuberay"].replace("mountPath: /tmp/ray}", "mountPath: /tmp/ray, subPaht: a}", 1)
    (problem,) = checked(tmp_path, text)
    everything = f"{sound['kuberay']}---\n{sound['job']}---\n{text}"
    (again,) = checked(tmp_path, everything, definitions=DEFINITIONS)
    assert again.message == problem.message == "unknown key; did you mean 'subPath'?"
    with pytest.raises(RequestError, match="expected a folder with KubeRay's definitions"):
        checked(tmp_path, text, definitions=tmp_path / "none")


@pytest.fixture(scope="module")
def study() -> "Study":
    from sweeps.study import load_study

    return replace(load_study("alpha_study"), storage="s3://my-bucket/sweeps")


@pytest.mark.parametrize("manifest", POOLS)
@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"workers": 1, "gpus": 1, "cpus": 6}, ""),
        ({"workers": 4, "gpus": 1, "cpus": 6}, ""),
        ({"workers": 1, "gpus": 0.25, "cpus": 1}, ""),
        ({"workers": 1, "gpus": 16, "cpus": 8}, "takes 8 CPUs and 16 GPUs of one machine"),
        ({"workers": 1, "gpus": 1, "cpus": 500}, "takes 500 CPUs and 1 GPUs of one machine"),
        ({"workers": 500, "gpus": 1, "cpus": 1}, "it takes 500 workers of 1 CPUs and 1 GPUs"),
    ],
)
def test_trials_that_never_fit_are_refused(
    sound: dict[str, str], study: "Study", manifest: str, resources: dict[str, Any], said: str, tmp_path: Path
) -> None:
    from sweeps.study import Resources

    problems = checked(tmp_path, sound[manifest], replace(study, resources=Resources(**resources)))
    assert (not problems) if not said else (len(problems) == 1 and said in str(problems[0])), problems


def test_a_study_that_writes_to_a_folder_is_refused(sound: dict[str, str], study: "Study", tmp_path: Path) -> None:
    (problem,) = checked(tmp_path, sound["aws"], replace(study, storage="/home/me/runs"))
    assert "which the machines do not share" in problem.message
    with pytest.raises(RequestError, match="starts no cluster"):
        checked(tmp_path, sound["mlflow"], study)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got an empty file"),
        ("- a\n- b\n", "expected the keys of a cluster's manifest, got a list"),
        ("a: [1\n", "my.yaml:2: not valid YAML"),
        ("a: 1\n---\n\tb: 1\n", "my.yaml:3: a tab cannot indent YAML"),
    ],
)
def test_what_is_no_manifest_is_said_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        checked(tmp_path, text)
    assert said in str(error.value)


def test_a_file_of_neither_kind_and_a_kind_that_nobody_knows(tmp_path: Path) -> None:
    (problem,) = checked(tmp_path, "name: alpha_study\nrecipe: {}\n")
    assert "expected a file for `ray up`" in problem.message
    path = tmp_path / "other.yaml"
    path.write_text("apiVersion: example.com/v1\nkind: Gadget\nspec: {anything: 1}\n")
    problems, notes = check_documents(read_manifest(str(path)))
    assert problems == []
    assert "nothing is known of the kind Gadget" in notes[0]


def test_what_only_looks_like_a_command_is_none(sound: dict[str, str], tmp_path: Path) -> None:
    text = sound["aws"].replace("  - ray stop", "  - ray stop; echo the ray startup --begins")
    assert checked(tmp_path, text) == []


def test_a_machine_that_nobody_knows_is_a_note_with_the_nearest_name(sound: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(sound["aws"].replace("InstanceType: g5.2xlarge", "InstanceType: g5.3xlarge"))
    problems, notes = check_documents(read_manifest(str(path)))
    assert problems == []
    assert "the machine g5.3xlarge; what it has was not looked at; did you mean 'g5." in notes[0]


def test_what_ray_itself_refuses_of_another_cloud_is_said(tmp_path: Path) -> None:
    text = filled("aws").replace("  type: aws", "  type: azure").replace("cluster_name: sweeps", "cluster_name: s", 1)
    assert checked(tmp_path, text) == []
    text = text.replace("upscaling_speed: 8", "upscaling_speed: -1")
    (problem,) = checked(tmp_path, text)
    assert "Ray refuses it: expected minimum 0" in str(problem)
    assert problem.place.endswith(": upscaling_speed")


@pytest.mark.parametrize("manifest", FILES)
def test_whatever_stands_in_the_place_of_a_value_is_judged_and_not_stumbled_over(
    sound: dict[str, str], manifest: str, tmp_path: Path
) -> None:
    draw = random.Random(manifest)  # noqa: S311 (no secret)
    others: list[Any] = [None, [], {}, "x", 3, True, [None], {"a": None}, -1, ["x"], [[]]]
    for _ in range(20):
        documents = [document for document in yaml.safe_load_all(sound[manifest]) if document]
        owner: Any = draw.choice(documents)
        while True:
            key = draw.choice(list(owner) if isinstance(owner, dict) else range(len(owner)))
            if not isinstance(owner[key], dict | list) or not owner[key] or draw.random() < 0.2:
                break
            owner = owner[key]
        owner[key] = draw.choice(others)
        with suppress(RequestError):
            assert all(str(problem) for problem in checked(tmp_path, yaml.safe_dump_all(documents)))


def test_the_options_of_ray_start_are_those_of_the_ray_that_is_installed() -> None:
    from ray.scripts.scripts import start

    options = {word.removeprefix("--") for each in start.params for word in each.opts if word.startswith("--")}
    assert options - set(shapes("kubernetes")["RayStart"]) == {"verbose"}
    assert set(shapes("kubernetes")["RayStart"]) <= options


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow 3.17 with SQLAlchemy 2.1
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # of its own command line
def test_the_commands_and_options_of_others_are_those_that_are_installed() -> None:
    from mlflow.cli import cli as of_mlflow
    from ray.scripts.scripts import cli as of_ray

    known = shapes("commands")
    assert of_ray.commands.keys() <= known["ray"].keys()
    assert of_mlflow.commands.keys() <= known["mlflow"].keys()
    parameters = of_mlflow.commands["server"].params
    words = {word for each in parameters for word in (*each.opts, *each.secondary_opts)}
    assert {word.removeprefix("--") for word in words if word.startswith("--")} == set(known["mlflow"]["server"])


def test_the_wait_that_is_reckoned_with_is_the_one_that_a_launch_sets() -> None:
    from sweeps.pool import node_patience

    assert node_patience() == DEFAULT_START_SECONDS
