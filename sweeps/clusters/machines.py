"""GPU machines that clouds rent: what each has, by the cloud's own name for it, as of late 2025."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One type of machine; ``gpu`` is "" where it has none."""

    cpus: int
    gpus: int = 0
    gpu: str = ""


def _sizes(prefix: str, gpu: str, sizes: dict[str, tuple[int, int]]) -> dict[str, Machine]:
    return {f"{prefix}{size}": Machine(cpus, gpus, gpu) for size, (cpus, gpus) in sizes.items()}


def _families(prefixes: tuple[str, ...], sizes: dict[str, tuple[int, int]]) -> dict[str, Machine]:
    return {name: machine for prefix in prefixes for name, machine in _sizes(prefix, "", sizes).items()}


_ONE = {"xlarge": (4, 1), "2xlarge": (8, 1), "4xlarge": (16, 1), "8xlarge": (32, 1), "16xlarge": (64, 1)}
_G = {**_ONE, "12xlarge": (48, 4), "24xlarge": (96, 4), "48xlarge": (192, 8)}
_N = {"standard-2": (2, 0), "standard-4": (4, 0), "standard-8": (8, 0), "standard-16": (16, 0), "standard-32": (32, 0)}
_NO_GPU = {size: (cpus, 0) for size, (cpus, _) in {"large": (2, 0), **_G}.items() if size != "48xlarge"}

AWS = {
    **_sizes("g4dn.", "T4", {**_ONE, "12xlarge": (48, 4)}),
    **_sizes("g5.", "A10G", _G),
    **_sizes("g6.", "L4", _G),
    **_sizes("g6e.", "L40S", _G),
    **_sizes("p4d.", "A100", {"24xlarge": (96, 8)}),
    **_sizes("p4de.", "A100-80G", {"24xlarge": (96, 8)}),
    **_sizes("p5.", "H100", {"4xlarge": (16, 1), "48xlarge": (192, 8)}),
    **_sizes("p5e.", "H200", {"48xlarge": (192, 8)}),
    **_sizes("p5en.", "H200", {"48xlarge": (192, 8)}),
    **_families(("m5.", "m6i.", "m7i.", "c6i.", "r6i."), _NO_GPU),
}

GCP = {
    **_sizes(
        "g2-standard-",
        "L4",
        {str(cpus): (cpus, {24: 2, 48: 4, 96: 8}.get(cpus, 1)) for cpus in (4, 8, 12, 16, 24, 32, 48, 96)},
    ),
    **_sizes("a2-highgpu-", "A100", {"1g": (12, 1), "2g": (24, 2), "4g": (48, 4), "8g": (96, 8)}),
    **_sizes("a2-megagpu-", "A100", {"16g": (96, 16)}),
    **_sizes("a2-ultragpu-", "A100-80G", {"1g": (12, 1), "2g": (24, 2), "4g": (48, 4), "8g": (96, 8)}),
    **_sizes("a3-highgpu-", "H100", {"1g": (26, 1), "2g": (52, 2), "4g": (104, 4), "8g": (208, 8)}),
    **_sizes("a3-megagpu-", "H100", {"8g": (208, 8)}),
    **_sizes("a3-ultragpu-", "H200", {"8g": (224, 8)}),
    **_families(("e2-", "n1-", "n2-", "n2d-"), _N),
}

MACHINES = {"aws": AWS, "gcp": GCP}

SPOT_ALONE = ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g")  # or by flex start

# What GPU feature labels call them on Google's Kubernetes.
GKE = {
    "nvidia-tesla-t4": "T4",
    "nvidia-l4": "L4",
    "nvidia-tesla-a100": "A100",
    "nvidia-a100-80gb": "A100-80G",
    "nvidia-h100-80gb": "H100",
    "nvidia-h100-mega-80gb": "H100",
    "nvidia-h200-141gb": "H200",
}


def machine_of(cloud: str, name: str) -> Machine | None:
    """The machine of that name; None where the table does not have it, which says nothing about the cloud."""
    return MACHINES.get(cloud, {}).get(name)
