"""What KubeRay and its autoscaler need of a cluster to let it grow and shrink, and of a job to end."""

from collections.abc import Iterator

from sweeps.clusters.manifest import Document, Fault, at, list_at, mapping_at, text_at
from sweeps.clusters.pools import cluster_keys, templates
from sweeps.source.marked import KeyPath

_V2 = "RAY_enable_autoscaler_v2"


def kuberay_faults(document: Document) -> Iterator[Fault]:
    """Of a RayCluster or RayJob; nothing of anything else."""
    for keys in cluster_keys(document):
        yield from _autoscaler(document, keys)
    if document.kind == "RayJob":
        yield from _job(document)


def _autoscaler(document: Document, keys: KeyPath) -> Iterator[Fault]:
    cluster = mapping_at(document.value, *keys)
    groups = [(position, mapping_at(group)) for position, group in enumerate(list_at(cluster, "workerGroupSpecs"))]
    varies = any(group.get("minReplicas") != group.get("maxReplicas") for _, group in groups)
    if varies and at(cluster, "enableInTreeAutoscaling") is not True:
        got = "" if "enableInTreeAutoscaling" not in cluster else ", got false"
        yield (*keys, "enableInTreeAutoscaling"), f"the pool would keep its first size; expected true{got}"
        return
    is_v2 = text_at(cluster, "autoscalerOptions", "version") == "v2" or any(
        text_at(entry, "name") == _V2 and text_at(entry, "value") in ("1", "true")
        for entry in list_at(cluster, "headGroupSpec", "template", "spec", "containers", 0, "env")
    )
    if varies and not is_v2:
        place = (*keys, "autoscalerOptions", "version")
        yield place, "expected v2: v1 keeps idle GPU machines, and knows no idle timeout of a group"
    for place, pod in templates(document, keys):
        given = text_at(pod, "restartPolicy")
        if is_v2 and given != "Never":
            got = f", got {given}" if given else ""
            reason = "a restarted container would come back as a node that autoscaler v2 takes for dead"
            yield (*place, "restartPolicy"), f"{reason}; expected Never{got}"


def _job(document: Document) -> Iterator[Fault]:
    job = mapping_at(document.value, "spec")
    if at(job, "rayClusterSpec") is not None and at(job, "shutdownAfterJobFinishes") is not True:
        yield ("spec", "shutdownAfterJobFinishes"), "the cluster would stay when the sweep is over; expected true"
    if at(job, "rayClusterSpec") is None and at(job, "clusterSelector") is None:
        yield ("spec", "rayClusterSpec"), "missing key: the job has no cluster to run on"
    if not text_at(job, "entrypoint"):
        yield ("spec", "entrypoint"), "missing key, expected the command that runs the sweep"
