"""What a cloud would refuse of a file for `ray up` when it is too late: names, sizes, what it rents, who is on spot."""

import re
from collections.abc import Iterator
from typing import Any

from sweeps.clusters.fields import MARKED
from sweeps.clusters.machines import machine_of
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, at, list_at, mapping_at, text_at
from sweeps.source.marked import KeyPath

_WINDS = "(central|north|south|east|west|northeast|northwest|southeast|southwest)"
_AWS = rf"(af|ap|ca|cn|eu|eusc-de|il|me|mx|sa|us)(-gov|-iso[a-z]?)?-{_WINDS}-\d"
_GCP = rf"(africa|asia|australia|europe|me|northamerica|southamerica|us)-{_WINDS}\d+"
LEAST_DISK = 50  # GB: the machine's own system, the image and its layers, Ray's logs
_FORMS = {
    "aws": {
        ("cluster_name",): (r"[A-Za-z][\w-]*", "letters, digits, - and _"),
        ("provider", "region"): (_AWS, "a region such as us-west-2"),
        ("provider", "availability_zone"): (rf"{_AWS}[a-z](, ?{_AWS}[a-z])*", "zones such as us-west-2a"),
    },
    "gcp": {
        ("cluster_name",): (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "small letters, digits and -"),
        ("provider", "region"): (_GCP, "a region such as us-central1"),
        ("provider", "availability_zone"): (rf"{_GCP}-[a-z]", "a zone such as us-central1-a"),
        ("provider", "project_id"): (
            r"([a-z.]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]",
            "a project's id such as my-project-123",
        ),
    },
}
_NODES = {
    "aws": {
        "InstanceType": (
            r"[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|\d*xlarge|metal(-\d+xl)?)",
            "a machine such as g5.2xlarge",
        ),
        "ImageId": (r"ami-[0-9a-f]{8}([0-9a-f]{9})?", "an image such as ami-0123456789abcdef0"),
    },
    "gcp": {"machineType": (r"[a-z]\w*-[a-z]+(-\w+)*", "a machine such as g2-standard-8")},
}


def cloud_faults(document: Document) -> Iterator[Fault]:
    """Of AWS and Google Cloud."""
    cloud = text_at(document.value, "provider", "type")
    if document.kind != LAUNCHER or cloud not in _FORMS:
        return
    for keys, form in _FORMS[cloud].items():
        yield from _formed(keys, text_at(document.value, *keys), *form)
    region, zones = (text_at(document.value, "provider", name) for name in ("region", "availability_zone"))
    if zones and region and not all(zone.strip().startswith(region) for zone in zones.split(",")):
        yield ("provider", "availability_zone"), f"expected a zone of the region {region}, got '{zones}'"
    if at(document.value, "provider", "use_internal_ips") is not True:
        keys = ("provider", "use_internal_ips")
        yield keys, "machines would have public addresses; expected true, and subnets that lead out by NAT"
    head = text_at(document.value, "head_node_type")
    for name, kind in mapping_at(document.value, "available_node_types").items():
        place: KeyPath = ("available_node_types", name, "node_config")
        config = mapping_at(kind, "node_config")
        for key, form in _NODES[cloud].items():
            yield from _formed((*place, key), text_at(config, key), *form)
        if cloud == "aws":
            yield from _ec2(config, place, name == head)
        else:
            yield from _gce(config, place, name == head, region)


def _formed(keys: KeyPath, value: str, form: str, expected: str) -> Iterator[Fault]:
    if value and not MARKED.search(value) and not re.fullmatch(form, value):
        yield keys, f"expected {expected}, got '{value}'"


def _ec2(config: dict[str, Any], keys: KeyPath, is_head: bool) -> Iterator[Fault]:
    if text_at(config, "MetadataOptions", "HttpTokens") == "optional":
        yield (
            (*keys, "MetadataOptions", "HttpTokens"),
            "whoever can make the machine fetch an address gets its role; expected required",
        )
    for position, disk in enumerate(list_at(config, "BlockDeviceMappings")):
        yield from _disk((*keys, "BlockDeviceMappings", position, "Ebs", "VolumeSize"), at(disk, "Ebs", "VolumeSize"))
    for position, network in enumerate(list_at(config, "NetworkInterfaces")):
        if at(network, "AssociatePublicIpAddress") is True:
            yield (*keys, "NetworkInterfaces", position, "AssociatePublicIpAddress"), "a public address; expected false"
    if is_head and text_at(config, "InstanceMarketOptions", "MarketType") == "spot":
        yield (*keys, "InstanceMarketOptions", "MarketType"), _HEAD_ON_SPOT


def _gce(config: dict[str, Any], keys: KeyPath, is_head: bool, region: str) -> Iterator[Fault]:
    for position, disk in enumerate(list_at(config, "disks")):
        if at(disk, "boot") is True:
            size = at(disk, "initializeParams", "diskSizeGb")
            yield from _disk((*keys, "disks", position, "initializeParams", "diskSizeGb"), size)
    for position, network in enumerate(list_at(config, "networkInterfaces")):
        if at(network, "accessConfigs"):
            yield (*keys, "networkInterfaces", position, "accessConfigs"), "a public address; expected none"
        found = re.search("/regions/([^/]+)/", text_at(network, "subnetwork"))
        if found and found[1] != region and re.fullmatch(_GCP, region) and not MARKED.search(found[1]):
            where = (*keys, "networkInterfaces", position, "subnetwork")
            yield where, f"expected a subnet of the region {region}, got one of {found[1]}"
    scheduling, machine = mapping_at(config, "scheduling"), machine_of("gcp", text_at(config, "machineType"))
    has_gpu = bool(machine and machine.gpus) or bool(list_at(config, "guestAccelerators"))
    if has_gpu and text_at(scheduling, "onHostMaintenance") != "TERMINATE":
        yield (*keys, "scheduling", "onHostMaintenance"), "Google cannot move a machine with GPUs; expected TERMINATE"
    spot = [
        key for key, value in (("provisioningModel", "SPOT"), ("preemptible", True)) if scheduling.get(key) == value
    ]
    if spot and scheduling.get("automaticRestart") is True:
        yield (*keys, "scheduling", "automaticRestart"), "Google starts no spot machine again; expected false"
    for key in spot if is_head else ():
        yield (*keys, "scheduling", key), _HEAD_ON_SPOT


_HEAD_ON_SPOT = "when the head goes, every sweep stops: expected a machine on demand, got spot"


def _disk(keys: KeyPath, size: Any) -> Iterator[Fault]:
    is_number = isinstance(size, int | float) or (isinstance(size, str) and size.isdigit())
    if is_number and float(size) < LEAST_DISK:
        yield keys, f"no room for the image: expected at least {LEAST_DISK} GB, got {size}"
