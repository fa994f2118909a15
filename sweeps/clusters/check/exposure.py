"""Who gets in: authentication, dashboards and MLflow that listen to everybody, doors to the outside."""

import re
from collections.abc import Iterator
from typing import Any

from sweeps.clusters.check.settings import settings
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, at, list_at, mapping_at, text_at
from sweeps.clusters.pools import cluster_keys, pod_templates, templates
from sweeps.source.marked import KeyPath

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_DASHBOARD = re.compile(r"--dashboard-host[= ]['\"]?([^\s'\";]+)")
_MLFLOW = re.compile(r"\bmlflow\s+(?:server|ui)\b[^;&|]*?--host[= ]['\"]?([^\s'\";]+)")
EVERYBODY = ("0.0.0.0/0", "::/0")
_SSH = 22
TOKEN = "RAY_AUTH_MODE=token"  # noqa: S105  # how a token is asked for, not one


def exposure_faults(document: Document) -> Iterator[Fault]:
    """Every way in that is open, and every lock that is missing."""
    if document.kind == LAUNCHER:
        yield from _launcher_authentication(document)
        yield from _launcher_listeners(document)
        yield from _firewall(document)
    for keys in cluster_keys(document):
        yield from _kuberay_cluster(document, keys)
    yield from _services(document)
    for keys, template in pod_templates(document):
        yield from _pod(mapping_at(template, "spec"), (*keys, "spec"))


def _launcher_authentication(document: Document) -> Iterator[Fault]:
    """Variables of the host do not reach into a container: with an image, Docker must be told."""
    places = {"head": "head_start_ray_commands", "worker": "worker_start_ray_commands"}
    options = {role: ("run_options", f"{role}_run_options") for role in places}
    docker = mapping_at(document.value, "docker")
    uses_image = any(text_at(docker, key) for key in ("image", "head_image", "worker_image"))
    for role, commands in places.items():
        given = [
            setting.value
            for setting in settings(document)
            if setting.name == "RAY_AUTH_MODE"
            and (
                setting.keys[0] == commands
                or setting.keys[:2] in [("docker", option) for option in options[role]]
                or (not uses_image and setting.keys[0] in ("initialization_commands", "setup_commands"))
            )
        ]
        if given[-1:] != ["token"]:
            keys: KeyPath = ("docker", "run_options") if uses_image else (commands,)
            how = f"'-e {TOKEN}'" if uses_image else f"`export {TOKEN}` before `ray start`"
            yield keys, f"whoever reaches the {role} may run code on it: no authentication; expected {how}"
    mounts = mapping_at(document.value, "file_mounts")
    has_token = any(target.endswith(".ray/auth_token") for target in mounts)
    if not has_token and not any(setting.name == "RAY_AUTH_TOKEN_PATH" for setting in settings(document)):
        target = "/home/ray/.ray/auth_token" if uses_image else "~/.ray/auth_token"
        yield (
            ("file_mounts",),
            (
                f"no token reaches the machines, and Ray would not start without one; expected '{target}': "
                "'~/.ray/auth_token' (`ray get-auth-token --generate` makes it)"
            ),
        )


def _launcher_listeners(document: Document) -> Iterator[Fault]:
    for section in ("head_start_ray_commands", "head_setup_commands", "setup_commands", "initialization_commands"):
        for position, command in enumerate(list_at(document.value, section)):
            for what, pattern, port in (("dashboard", _DASHBOARD, 8265), ("MLflow", _MLFLOW, 5000)):
                match = pattern.search(command) if isinstance(command, str) else None
                if match and match[1] not in _LOOPBACK:
                    flag = "--dashboard-host" if what == "dashboard" else "--host"
                    yield (
                        (section, position),
                        (
                            f"{what} would listen on every network of the head, unencrypted; expected {flag}=127.0.0.1 "
                            f"(`ray attach FILE -p {port}` brings it to you), got {match[1]}"
                        ),
                    )
    if "head_start_ray_commands" not in document.value:
        yield ("head_start_ray_commands",), "missing key: Ray's own commands open the dashboard to every network"


def _firewall(document: Document) -> Iterator[Fault]:
    keys: KeyPath = ("provider", "security_group", "IpPermissions")
    for position, rule in enumerate(list_at(document.value, *keys)):
        ranges = [*list_at(rule, "IpRanges"), *list_at(rule, "Ipv6Ranges")]
        is_ssh = at(rule, "FromPort") == at(rule, "ToPort") == _SSH
        for entry in ranges:
            cidr = text_at(entry, "CidrIp") or text_at(entry, "CidrIpv6")
            if cidr in EVERYBODY and not is_ssh:
                yield (*keys, position), f"opens ports to everybody ({cidr}); expected your own network"


def _kuberay_cluster(document: Document, keys: KeyPath) -> Iterator[Fault]:
    cluster = mapping_at(document.value, *keys)
    mode = text_at(cluster, "authOptions", "mode")
    has_tokens = mode == "token" or (not mode and all(_asks_for_tokens(pod) for _, pod in templates(document, keys)))
    if not has_tokens:
        place = (*keys, "authOptions", "mode")
        got = f", got '{mode}'" if mode else ""
        yield place, f"whoever reaches the head may run code on it: no authentication; expected 'token'{got}"
        host = text_at(cluster, "headGroupSpec", "rayStartParams", "dashboard-host")
        if host and host not in _LOOPBACK:
            place = (*keys, "headGroupSpec", "rayStartParams", "dashboard-host")
            yield place, f"an open dashboard: it listens on {host}, and nobody is asked for a token"
    if at(cluster, "headGroupSpec", "enableIngress") is True:
        yield (*keys, "headGroupSpec", "enableIngress"), "leads from outside to the dashboard; expected false"
    service = text_at(cluster, "headGroupSpec", "serviceType")
    if service in ("NodePort", "LoadBalancer"):
        yield (*keys, "headGroupSpec", "serviceType"), _door(service)


def _asks_for_tokens(pod: dict[str, Any]) -> bool:
    """As before there were authOptions: told by hand, in every pod."""
    environment = list_at(pod, "containers", 0, "env")
    return any(at(entry, "name") == "RAY_AUTH_MODE" and at(entry, "value") == "token" for entry in environment)


def _pod(pod: dict[str, Any], keys: KeyPath) -> Iterator[Fault]:
    if pod.get("hostNetwork") is True:
        yield (*keys, "hostNetwork"), "puts Ray's ports on the node's own network; expected false"
    for position, container in enumerate(list_at(pod, "containers")):
        place = (*keys, "containers", position)
        for number, port in enumerate(list_at(container, "ports")):
            if "hostPort" in mapping_at(port):
                yield (*place, "ports", number, "hostPort"), "opens a port of the node; expected a Service"


def _services(document: Document) -> Iterator[Fault]:
    places: list[KeyPath] = [("spec",)] if document.kind == "Service" else []
    places += [(*keys, "headGroupSpec", "headService", "spec") for keys in cluster_keys(document)]
    for place in places:
        kind = text_at(document.value, *place, "type")
        if kind in ("NodePort", "LoadBalancer"):
            yield (*place, "type"), _door(kind)
    if document.kind == "Ingress":
        yield ("kind",), "leads from outside into the cluster; expected none (`kubectl port-forward` needs no Ingress)"


def _door(kind: str) -> str:
    instead = "expected ClusterIP (`kubectl port-forward`)"
    return f"leads from outside to what has no encryption of its own; {instead}, got {kind}"
