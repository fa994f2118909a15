"""One version of Ray everywhere, written down: images, rayVersion and what set-up commands install."""

import re
from collections.abc import Iterator
from importlib.metadata import version

from sweeps.clusters.fields import MARKED
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, list_at, mapping_at, text_at
from sweeps.clusters.pools import cluster_keys, templates
from sweeps.source.marked import KeyPath

_MOVING = ("latest", "nightly", "main", "master")
_IMAGES = ("image", "head_image", "worker_image")
_RAY_INSTALLED = re.compile(r"\bray(?:\[[\w,]*\])?\s*(==\s*([\d.]+))?[\"']?(?=\s|$|;|&| @)")


def version_faults(document: Document) -> Iterator[Fault]:
    """What may differ between machines, from today to tomorrow, or from the Ray that is installed here."""
    yield from _images(document)
    yield from _same_image(document)
    for keys in cluster_keys(document):
        given = text_at(document.value, *keys, "rayVersion")
        if not given:
            yield (*keys, "rayVersion"), f"missing key, expected '{version('ray')}': the operator goes by it"
        elif minor(given) != minor(version("ray")):
            yield (*keys, "rayVersion"), f"expected {version('ray')}, the Ray of this installation, got {given}"
    if document.kind == LAUNCHER:
        yield from _set_up(document)


def minor(release: str) -> str:
    """``2.60`` of ``2.60.0``."""
    return ".".join(release.split(".")[:2])


def _images(document: Document) -> Iterator[Fault]:
    for keys, image in document.texts():
        if keys[-1] not in _IMAGES or MARKED.search(image):
            continue
        name, tag = _parted(image)
        if not tag or tag.split("-")[0] in _MOVING:
            yield keys, f"expected an image that stays what it is (name:tag or name@sha256:...), got '{image}'"
        elif name.endswith(("rayproject/ray", "rayproject/ray-ml")) and minor(tag) != minor(version("ray")):
            yield keys, f"expected Ray {version('ray')}, the one of this installation, got '{image}'"


def _parted(image: str) -> tuple[str, str]:
    name, at, digest = image.partition("@")
    path, colon, tag = name.rpartition(":")
    if "/" in tag or not colon:  # the colon was a registry's port
        path, tag = name, ""
    return path, digest if at else tag


def _same_image(document: Document) -> Iterator[Fault]:
    """Head and workers pickle for each other."""
    places: list[tuple[KeyPath, str]] = []
    if document.kind == LAUNCHER:
        docker = mapping_at(document.value, "docker")
        places = [(("docker", key), text_at(docker, key)) for key in _IMAGES]
    for keys in cluster_keys(document):
        for place, pod in templates(document, keys):
            places.append(((*place, "containers", 0, "image"), text_at(pod, "containers", 0, "image")))
    releases: dict[str, str] = {}
    for place, image in places:
        name, tag = _parted(image)
        release = re.split(r"-(?:py\d+|gpu|cu\d+|cpu)", tag)[0]
        if image and releases.setdefault(name, release) != release:
            yield place, f"expected {name}:{releases[name]} as elsewhere in this file, got '{image}'"


def _set_up(document: Document) -> Iterator[Fault]:
    """Without set-up commands of its own, a file gets Ray's default ones, which install a nightly build."""
    uses_image = any(text_at(document.value, "docker", key) for key in _IMAGES)
    if "setup_commands" not in document.value:
        yield (
            ("setup_commands",),
            (
                "missing key: Ray would install a nightly build of itself; expected []"
                + ("" if uses_image else f", or commands that install ray=={version('ray')}")
            ),
        )
    for section in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for position, command in enumerate(list_at(document.value, section)):
            keys = (section, position)
            if not isinstance(command, str) or "install" not in command:
                continue
            if "ray-wheels/latest" in command or ".dev0" in command or "nightly" in command:
                yield keys, f"installs a nightly build of Ray; expected ray=={version('ray')}"
                continue
            for match in _RAY_INSTALLED.finditer(command):
                if match[2] is None or minor(match[2]) != minor(version("ray")):
                    given = match[2] or "any version of it"
                    yield keys, f"installs Ray as {given}; expected ray=={version('ray')}, the one of this installation"
