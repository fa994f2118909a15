"""What goes to a cluster, and what is refused before anything does; sweeps on a real cluster run in ``test_jobs``."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweeps.cli import main
from sweeps.places import PATH_KEYS, local_places
from sweeps.remote import cargo as cargo_module
from sweeps.remote import inside
from sweeps.remote.address import auth_headers, is_jobs_address, jobs_url
from sweeps.remote.cargo import PACKAGES, cargo_of
from sweeps.remote.inputs import inputs_of
from sweeps.remote.order import Order, read_order, sent_study
from sweeps.remote.shipped import link_inputs, shipped_folder
from sweeps.remote.submit import check_secrets
from sweeps.source import Source, read_source
from sweeps.stored import RequestError
from sweeps.study import Study, draft_study, study_from
from tests.support import write_digits
from tests.sweeps.clusters import free_ports
from tests.sweeps.commands import STUDY

ROOT = Path(__file__).parents[2]
PARQUET = (
    STUDY.replace("{kind: digits}", "{kind: parquet, path: data/digits.parquet, split: train}")
    .replace("{kind: digits, split: test}", "{kind: parquet, path: data/digits.parquet, split: test}")
    .replace("loss.alpha: {choice: [0, 1]}", "model.weights: {choice: [digits, data/own.safetensors]}")
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small Parquet file."""
    return write_digits(tmp_path_factory.mktemp("images") / "digits.parquet", 64, 32).read_bytes()


@pytest.fixture
def study(tmp_path: Path, images: bytes) -> Path:
    """A study in a folder of its own, beside the images it names and much that it does not."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "digits.parquet").write_bytes(images)
    (folder / "data" / "own.safetensors").write_bytes(b"own")
    (folder / ".git").mkdir()
    (folder / "checkpoint.pt").write_bytes(b"\0" * 2_000_000)
    (folder / "far.yaml").write_text(PARQUET)
    return folder / "far.yaml"


def drafted(study: Path, *settings: str) -> tuple[Study, Source]:
    source = read_source(str(study), settings)
    loaded, problems, _ = draft_study(source)
    assert loaded is not None, problems
    return loaded, source


def sweep(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def refused(*arguments: object) -> str:
    """What is said on stderr; exit code 2."""
    result = sweep(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == "", "nothing was begun"
    return result.stderr


ANYWHERE = ("--address", "http://127.0.0.1:1", "--storage", "s3://bucket/sweeps")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("https://ray.example.com/team-a", "https://ray.example.com/team-a"),
        ("ray://head:10001", "http://head:8265"),
        ("ray://head", "http://head:8265"),
        ("ray://[::1]:10001", "http://[::1]:8265"),
    ],
)
def test_a_jobs_address_is_known_by_its_form(address: str, url: str) -> None:
    assert is_jobs_address(address)
    assert jobs_url(address) == url


@pytest.mark.parametrize(
    "address", ["local", "auto", "head:6379", "http://", "http://me:secret@head:8265", "ftp://x:1"]
)
def test_other_addresses_are_none(address: str) -> None:
    assert not is_jobs_address(address)


def test_the_token_comes_from_rays_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert auth_headers() == {}
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("of-home\n")
    assert auth_headers() == {"Authorization": "Bearer of-home"}
    (tmp_path / "token").write_text("of-file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert auth_headers() == {"Authorization": "Bearer of-file"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-environment")
    assert auth_headers() == {"Authorization": "Bearer of-environment"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert auth_headers() == {}


def test_a_token_file_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(RequestError, match="RAY_AUTH_TOKEN_PATH: cannot read /nowhere/token"):
        auth_headers()


def test_the_keys_of_paths_are_those_whose_types_are_paths() -> None:
    """Of every component: a new one with a path is sent along, or this fails."""
    typed = set()
    for path in (ROOT / "robustcore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = {each.id for each in ast.walk(node.annotation) if isinstance(each, ast.Name)}
                if names & {"DataPath", "Weights"}:
                    typed.add(node.target.id)
    assert typed == set(PATH_KEYS)


def test_a_study_says_what_it_needs_and_nothing_else_is_sent(study: Path) -> None:
    loaded, source = drafted(study)
    places = local_places(loaded.plain, source.folder)
    assert {path.name for path in places.values()} == {"digits.parquet", "own.safetensors"}
    inputs, seen = inputs_of(loaded, source, [])
    cargo = cargo_of(list(inputs.values()), [str(path) for path in seen])
    assert [each.path.name for each in cargo.inputs] == ["digits.parquet", "own.safetensors"]
    assert cargo.size < 4_000_000
    assert not seen
    assert any("recipe.data.train.path" in line and "digits.parquet" in line for line in cargo.plan())


def test_what_all_machines_see_stays_where_it_is(study: Path) -> None:
    loaded, source = drafted(study)
    inputs, seen = inputs_of(loaded, source, [study.parent / "data"])
    assert not inputs
    assert [path.name for path in seen] == ["digits.parquet", "own.safetensors"]


def test_the_code_that_goes_is_every_file_of_the_packages_under_version_control() -> None:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    known = set(listed.stdout.split())
    assert known <= cargo_of([], []).code.keys()


def test_the_order_arrives_with_its_files_at_one_path_whoever_unpacks_them(study: Path, tmp_path: Path) -> None:
    loaded, source = drafted(study)
    inputs, _ = inputs_of(loaded, source, [])
    order = Order("launch", "far", "far.yaml", ("--address", "http://h:1"), "s3://b", wanted=("apgd", None))
    order = Order(**{**order.as_json(), "study": sent_study(loaded, inputs, source.folder)})
    digests = []
    for life in ("one", "two"):
        job = tmp_path / life
        cargo_of(list(inputs.values()), []).pack(order.as_json(), tmp_path / f"{life}.zip")
        zipfile.ZipFile(tmp_path / f"{life}.zip").extractall(job)
        link_inputs(job)
        arrived = read_order(job)
        assert (arrived.said, arrived.wanted) == (("--address", "http://h:1"), ("apgd", None))
        assert arrived.study is not None
        there = study_from(arrived.study)
        digests.append(there.recipe.fingerprint())
        path = Path(there.plain_recipe["data"]["train"]["path"])
        assert path.is_relative_to(shipped_folder())
        assert path.read_bytes() == (study.parent / "data" / "digits.parquet").read_bytes()
        assert path.resolve().is_relative_to(job)
        assert Path(str(there.plain["knobs"]["model.weights"]["choice"][1])).read_bytes() == b"own"
        assert there.text == PARQUET
        assert there.path == str(study)
    assert digests[0] == digests[1], "a resumed sweep knows its checkpoints by its recipe"
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes(), "and is not sent twice"


def test_more_than_the_limit_is_refused_with_the_biggest_files(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (study.parent / "data" / "own.safetensors").open("wb") as sparse:
        sparse.truncate(cargo_module.LIMIT)
    said = refused("launch", study, *ANYWHERE).splitlines()
    assert "expected at most 100 MB; nothing was sent" in said[0]
    assert "--shared" in said[0]
    assert said[1].split() == ["100.0", "MB", str(study.parent / "data" / "own.safetensors")]
    assert "digits.parquet" in "".join(said)


MISTAKES = {
    "its own disk": (["--storage", "runs"], "runs is a folder of one machine; expected object storage"),
    "nobody there": ([], "no jobs server of Ray answers at http://127.0.0.1:1"),
    "no such data": (["--set", "data.train.path=/x/digit.parquet"], "/x/digit.parquet is not here, and in no folder"),
    "a typo": (["--set", "loss.alpa=1"], "did you mean 'alpha'?"),
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_launch_that_cannot_be_is_a_sentence(arguments: list[str], sentence: str, study: Path) -> None:
    said = refused("launch", study, *ANYWHERE, *arguments)
    assert sentence in said
    assert "secret" not in said.replace("AWS_SECRET", "")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("setting", ["data.train.path=s3://me:secret@bucket/digits.parquet"])
def test_no_secret_travels(setting: str, study: Path) -> None:
    loaded, source = drafted(study, setting)
    order = Order("launch", "far", "far.yaml", (), loaded.storage, sent_study(loaded, {}, source.folder))
    with pytest.raises(RequestError, match=r"//bucket.*: a user or a password in an address") as refusal:
        check_secrets(order)
    assert "secret" not in str(refusal.value).replace("AWS_SECRET", "")


@pytest.mark.parametrize("verb", ["attach", "logs", "stop", "resume", "certify", "launch"])
def test_where_nobody_answers_every_verb_says_so_in_one_sentence(verb: str) -> None:
    (port,) = free_ports(1)
    where = [] if verb in ("attach", "logs", "stop") else ["--storage", "s3://bucket/x"]
    said = refused(verb, "alpha_study", "--address", f"http://127.0.0.1:{port}", *where)
    assert f"no jobs server of Ray answers at http://127.0.0.1:{port}" in said
    assert len(said.splitlines()) == 1


def test_a_rayignore_keeps_a_file_here_and_that_is_said(study: Path) -> None:
    (study.parent / ".rayignore").write_text("data/\n")
    said = refused("launch", study, *ANYWHERE)
    assert f"far.yaml:5: recipe.data.train.path: {study.parent}/.rayignore keeps" in said


def test_a_cluster_without_what_the_code_needs_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["click>=1", "ray[default]<1", "no-such-thing>=2", 'only-for-tests; extra == "dev"']
    monkeypatch.setattr(inside, "requires", lambda name: wanted)
    with pytest.raises(SystemExit) as ended:
        inside.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "no-such-thing>=2 is missing" in said
    assert "ray<1 is wanted, it has 2." in said
    assert "click" not in said
    assert "only-for-tests" not in said


def test_what_the_cluster_imports_first_needs_nothing_but_the_standard_library() -> None:
    """Else a package that is missing there would be a traceback."""
    code = (
        "import sys; sys.modules.update({n: None for n in ('click', 'ray', 'torch', 'pyarrow', 'pydantic', 'yaml')});"
        "import sweeps.remote.inside, sweeps.remote.shipped"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_words_that_need_a_cluster_are_refused_without_one(study: Path) -> None:
    assert "expected --address http://HOST:8265" in refused("launch", study, "--detach")
    assert "expected --address http://HOST:8265" in refused("resume", study, "--shared", "/mnt")
