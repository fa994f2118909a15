"""A rendered manifest is what was asked for, says what is left to do, keeps its comments, and passes its own check."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sweeps.clusters.edits import edited
from sweeps.clusters.render import rendered
from sweeps.stored import RequestError
from tests.sweeps.commands import STUDY, sweep, write_study
from tests.sweeps.manifests import checked, fields_of, filled

ROOT = Path(__file__).parents[2]
GPUS = {"aws": ("A10G", "L4", "A100", "H100"), "gcp": ("L4", "A100", "H100"), "kuberay": ("L4", "A100", "H100")}
GPUS["job"] = GPUS["kuberay"]
CHOICES = [(manifest, gpu) for manifest, gpus in GPUS.items() for gpu in gpus]


def kinds(text: str) -> list[tuple[str, int]]:
    """Name and largest number of each kind of worker."""
    document = next(d for d in yaml.safe_load_all(text) if d.get("kind", "RayCluster") in ("RayCluster", "RayJob"))
    if "available_node_types" in document:
        types = document["available_node_types"].items()
        return [(name, kind["max_workers"]) for name, kind in types if name != document["head_node_type"]]
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    return [(group["groupName"], group["maxReplicas"]) for group in spec["workerGroupSpecs"]]


@pytest.mark.parametrize(("manifest", "gpu"), CHOICES)
def test_one_kind_of_gpu_is_kept_with_as_many_machines_as_asked(manifest: str, gpu: str, tmp_path: Path) -> None:
    text = filled(manifest, gpus=[gpu.lower()], workers=3)
    assert kinds(text) == [(gpu.lower(), 3)]
    assert checked(tmp_path, text) == []


@pytest.mark.parametrize("manifest", GPUS)
def test_on_demand_machines_are_not_spot(manifest: str, tmp_path: Path) -> None:
    spot = ("MarketType", "SPOT", "gke-spot")
    assert any(f"{word}:" in filled(manifest) or f": {word}" in filled(manifest) for word in spot)
    text = filled(manifest, spot=False, gpus=["A100", "L4"])
    assert not any(word in line for line in text.splitlines() for word in spot if not line.lstrip().startswith("#"))
    assert checked(tmp_path, text) == []


def test_what_a_cloud_rents_as_spot_alone_is_refused_on_demand(tmp_path: Path) -> None:
    (problem,) = checked(tmp_path, filled("gcp", spot=False))
    assert "Google rents a a3-highgpu-1g as spot alone" in problem.message


@pytest.mark.parametrize("manifest", GPUS)
def test_all_that_was_not_asked_about_stays_as_it_was(manifest: str) -> None:
    before, _ = rendered(manifest)
    after, _ = rendered(manifest, workers=3, name="mine")
    changed = [
        (old.strip(), new.strip())
        for old, new in zip(before.splitlines(), after.splitlines(), strict=True)
        if old != new
    ]
    assert {new for _, new in changed} <= {"max_workers: 3", "maxReplicas: 3", "cluster_name: mine", "name: mine"}
    assert len(changed) == len(kinds(before)) + (2 if manifest in ("aws", "gcp") else 1)
    one, _ = rendered(manifest, gpus=["A100"])
    assert set(one.splitlines()) < set(before.splitlines())
    assert "\n\n\n" not in one


@pytest.mark.parametrize(
    ("manifest", "wishes", "said"),
    [
        ("awss", {}, "did you mean 'aws'?"),
        ("aws", {"gpus": ["A10"]}, "did you mean 'A10G'?"),
        ("gcp", {"gpus": ["T4"]}, "expected one of: L4, A100, H100"),
        ("aws", {"fields": ["regoin=us-west-2"]}, "did you mean 'region'?"),
        ("aws", {"fields": ["region"]}, "expected FIELD=VALUE"),
        ("aws", {"fields": ["bucket=a b; rm -rf /"]}, "--set bucket: expected letters"),
        ("kuberay", {"name": "a: b"}, "--name: expected letters"),
        ("mlflow", {"workers": 2}, "'mlflow' starts no GPU machines"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(manifest: str, wishes: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError) as error:
        rendered(manifest, **wishes)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_what_is_dropped_takes_its_comments_along_and_nothing_else() -> None:
    text = "a:\n  # of b\n  b: [1]\n\n  # of c\n  c:\n    - x: 1\n      y: 2\n    - x: 3\nd: {e: 4, f: 5} # g\n"
    assert edited(text, {}, [6]) == "a:\n  # of b\n  b: [1]\n\nd: {e: 4, f: 5} # g\n"
    assert edited(text, {}, [3]) == text.replace("  # of b\n  b: [1]\n\n", "")
    assert edited(text, {(10, "f"): "6"}, [7, 3]) == ("a:\n  # of c\n  c:\n    - x: 3\nd: {e: 4, f: 6} # g\n")


def test_the_command_prints_what_check_accepts(tmp_path: Path) -> None:
    fields = [f"--set={field}={value}" for field, value in fields_of("gcp").items() if field != "image"]
    done = sweep("cluster", "render", "gcp", "--workers", 4, "--gpu", "A100", "--spot", *fields)
    assert done.stderr.splitlines() == [
        "to fill in: --set image=..., the image built from cluster/Dockerfile, with its tag"
    ]
    path = tmp_path / "my.yaml"
    path.write_text(done.stdout)
    refused = sweep("cluster", "check", path, code=2)
    assert refused.stdout == ""
    line = 1 + done.stdout.splitlines().index("  image: __IMAGE__")
    assert f"{path}:{line}: docker.image: the field __IMAGE__ is not filled in" in refused.stderr
    path.write_text(done.stdout.replace("__IMAGE__", "example.com/sweeps:1"))
    wanted = "resources: {gpus: 0.5, cpus: 6}\nstorage: gs://my-bucket/sweeps"
    study = STUDY.replace("resources: {cpus: 1}", wanted).replace("{sampler: grid, trials: 2}", "{trials: 32}")
    said = sweep("cluster", "check", path, "--study", write_study(tmp_path, study)).stdout
    assert "a100: 0 to 4 of 12 CPUs, 1 GPUs; given back after 12 idle minutes" in said
    assert "tiny: 8 of its 32 trials at a time at the pool's largest" in said


def test_an_installed_package_finds_the_manifests_that_its_wheel_carries(tmp_path: Path) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (place,) = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items()
    assert place[0] == "cluster"
    shutil.copytree(ROOT / "sweeps", tmp_path / "sweeps", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / place[0], tmp_path / place[1])
    program = "from sweeps.clusters.shipped import shipped_path; print(shipped_path('job'))"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == str(tmp_path / "sweeps/clusters/manifests/kuberay/job.yaml"), run.stderr
