"""WebDataset tar shards: splits, labels and class names; and what is said of a shard that is not whole."""

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustcore.data import WebDataset
from robustcore.errors import DataError
from tests.robustcore.greys import NAMES, greys
from tests.support import coloured


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shard(path: Path, first: int = 0, count: int = 3, **changes: bytes | None) -> Path:
    """Greys ``first``, ``first + 1``, ... labelled 0, 1, 2, 0, ...; ``changes`` are members with ``__`` for the dot."""
    files: dict[str, bytes] = {}
    for number in range(first, first + count):
        files |= {f"s{number:03}.png": coloured(number), f"s{number:03}.cls": f"{number % 3}\n".encode()}
    for name, content in changes.items():
        name = name.replace("__", ".")
        files = {key: value for key, value in files.items() if key != name} | ({name: content} if content else {})
    return write_tar(path, dict(sorted(files.items())))


def opened(path: Path | str, **options: Any) -> Any:
    return WebDataset(str(path), **({"classes": NAMES} | options)).open()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As published: names beside a folder for each split."""
    shard(tmp_path / "test" / "0.tar")
    shard(tmp_path / "test" / "1.tar", first=3, count=2)
    shard(tmp_path / "train" / "0.tar", first=100)
    (tmp_path / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n")
    return tmp_path


def test_shards_are_read_in_the_order_of_their_names_with_the_names_beside_them(root: Path) -> None:
    images = WebDataset(str(root), split="test").open()
    assert greys(images) == [0, 1, 2, 3, 4]
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.labels.dtype == np.int64
    assert images.groups.tolist() == [0, 3, 5]
    assert images.classes == NAMES


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("test/0.tar", [0, 1, 2]),
        ("test/*.tar", [0, 1, 2, 3, 4]),
        ("test/{0..1}.tar", [0, 1, 2, 3, 4]),
        ("{test,train}/0.tar", [0, 1, 2, 100, 101, 102]),
        ("test/{00..01}.tar", None),
    ],
)
def test_a_path_may_be_a_file_or_a_pattern(pattern: str, expected: list[int] | None, root: Path) -> None:
    if expected is None:
        with pytest.raises(DataError, match="no such file, folder or pattern of shards"):
            opened(root / pattern)
    else:
        assert greys(opened(root / pattern)) == expected


def test_a_split_may_be_in_the_names_of_the_shards(tmp_path: Path) -> None:
    shard(tmp_path / "set-test-000.tar")
    shard(tmp_path / "set-train-000.tar", first=50)
    assert greys(opened(tmp_path, split="train")) == [50, 51, 52]
    with pytest.raises(DataError, match="has no split 'val'") as caught:
        opened(tmp_path, split="val")
    assert caught.value.key == "split"


def test_labels_may_be_json_and_what_is_neither_image_nor_label_is_passed_over(tmp_path: Path) -> None:
    files = {
        "a/x.webp": coloured(7),
        "a/x.json": b'{"label": 2, "width": 4}',
        "a/x.txt": b"a cat",
        "a/y.seg.png": coloured(9),
        "a/y.jpg": coloured(8),
        "a/y.cls": b"1",
        ".hidden": b"",
        "__index__": b"",
    }
    images = opened(write_tar(tmp_path / "a.tar", files))
    assert greys(images) == [7, 8]
    assert images.labels.tolist() == [2, 1]


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_a_limit_takes_the_same_images_every_time_with_their_own_labels(limit: int, root: Path) -> None:
    images = opened(root, split="test", limit=limit)
    chosen = greys(images)
    assert chosen == greys(opened(root, split="test", limit=limit)) == sorted(chosen)
    assert len(chosen) == min(limit, 5)
    assert images.labels.tolist() == [grey % 3 for grey in chosen]
    assert images.groups[-1] == len(chosen)
    assert (np.diff(images.groups) > 0).all()


def test_the_fingerprint_and_the_index_change_with_a_shard(root: Path) -> None:
    before = opened(root, split="test")
    shard(root / "test" / "0.tar", first=9, count=6)
    after = opened(root, split="test")
    assert after.fingerprint != before.fingerprint
    assert greys(after)[:6] == list(range(9, 15))


def cut(path: Path, keep: int) -> Path:
    path.write_bytes(path.read_bytes()[:keep])
    return path


def scratched(path: Path, start: int) -> Path:
    content = bytearray(path.read_bytes())
    content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    return path


def squeezed(path: Path) -> Path:
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


# Each member of a shard of greys takes 1024 bytes: a header and one block.
MISTAKES = {
    "cut within a member": (lambda path: cut(shard(path), 1024 + 512 + 1), "path", r"a\.tar is (cut off|not a whole)"),
    "cut between members": (lambda path: cut(shard(path), 2048), "path", r"a\.tar is cut off after member s000\.png$"),
    "cut within a header": (lambda path: cut(shard(path), 2048 + 100), "path", r"a\.tar is cut off after member s000"),
    "a damaged header": (lambda path: scratched(shard(path), 2048), "path", r"a\.tar is damaged after member s000"),
    "not a tar": (lambda path: cut(shard(path), 0), "path", r"a\.tar is not a whole tar file"),
    "noise": (lambda path: scratched(shard(path), 0), "path", r"a\.tar is not a whole tar file"),
    "compressed": (lambda path: squeezed(shard(path)), "path", r"a\.tar is compressed with gzip, expected a plain tar"),
    "no image": (lambda path: shard(path, s001__png=None), "path", "sample 's001' has no image, .* got cls$"),
    "no label": (lambda path: shard(path, s001__cls=None), "path", "sample 's001' has no label, expected s001.cls or"),
    "a label of words": (lambda path: shard(path, s001__cls=b"bee"), "path", "member s001.cls: .* number, got 'bee'$"),
    "a label of bytes": (lambda path: shard(path, s001__cls=b"\xff\xfe"), "path", "member s001.cls: expected a whole"),
    "half a label": (
        lambda path: shard(path, s001__cls=None, s001__json=b'{"label": 1.5}'),
        "path",
        r"member s001\.json: expected \{\"label\": a whole number\}",
    ),
    "a label beyond the classes": (lambda path: shard(path, s001__cls=b"7"), "path", "image 1 has label 7, expected"),
    "no images": (lambda path: write_tar(path, {}), "path", "has no images$"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_shard_that_is_not_whole_is_named_with_its_member(mistake: str, tmp_path: Path) -> None:
    write, key, sentence = MISTAKES[mistake]
    with pytest.raises(DataError, match=sentence) as caught:
        opened(write(tmp_path / "a.tar"))
    assert str(tmp_path / "a.tar") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("options", "key", "sentence"),
    [
        ({"classes": None}, "classes", "names no classes .*classnames.txt.*; list them under 'classes'$"),
        ({"path": "s3://bucket/set.tar"}, "path", "from a local disk, expected a path$"),
        ({"path": "nothing.tar"}, "path", "no such file, folder or pattern of shards: nothing.tar$"),
    ],
)
def test_a_mistake_is_one_sentence_about_its_key(
    options: dict[str, Any], key: str, sentence: str, tmp_path: Path
) -> None:
    path = shard(tmp_path / "deep" / "er" / "a.tar")
    with pytest.raises(DataError, match=sentence) as caught:
        opened(**({"path": path} | options))
    assert caught.value.key == key


def test_a_folder_without_shards_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.tar shards$"):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"not an image", coloured(0)[:40], b"\0"])
def test_a_corrupt_image_is_named_by_its_shard_and_member(content: bytes, tmp_path: Path) -> None:
    images = opened(shard(tmp_path / "a.tar", s001__png=content))
    with pytest.raises(DataError, match=r"a\.tar, member s001\.png: cannot decode the image") as caught:
        images.decode(1)
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)
    assert images.decode(2).size == (4, 4)


def test_a_shard_that_goes_away_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar")
    images = opened(path)
    cut(path, 600)
    with pytest.raises(DataError, match=r"a\.tar, member s001\.png: the shard ends within it"):
        images.decode(1)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tar, member s001\.png: .*No such file"):
        images.decode(1)
