"""Named suites: what is known of each set, and which stored copy of it is found and believed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from torchvision.models._meta import _IMAGENET_CATEGORIES

from robustcore.data import Digits, Folder, HuggingFace, Parquet, Torchvision, WebDataset
from robustcore.errors import DataError
from robustcore.suites import SUITES, set_ids, set_info, suite_sets
from robustcore.suites.names import clip_names
from robustcore.suites.resolve import missing, resolve
from tests.robustcore.layouts import eurosat, in_folders
from tests.robustcore.test_arrow import saved
from tests.robustcore.test_webdataset import write_tar
from tests.support import coloured, write_parquet

# Published counts: classes, test images, prompts of CLIP's ensemble.
COUNTS = {
    "caltech101": (102, 8677, 34),
    "cars": (196, 8041, 8),
    "cifar10": (10, 10000, 18),
    "cifar100": (100, 10000, 18),
    "digits": (10, 400, 1),
    "dtd": (47, 1880, 8),
    "eurosat": (10, 27000, 3),
    "fgvc_aircraft": (100, 3333, 2),
    "flowers102": (102, 6149, 1),
    "food101": (101, 25250, 1),
    "imagenet": (1000, 50000, 80),
    "imagenet_r": (200, 30000, 80),
    "imagenet_sketch": (1000, 50889, 80),
    "pcam": (2, 32768, 2),
    "pets": (37, 3669, 1),
    "stl10": (10, 8000, 2),
    "sun397": (397, 108754, 2),
    "tiny_imagenet": (200, 10000, 80),
    "ucf101": (101, 3783, 48),
}
STL10 = set_info("stl10").classes


def test_every_set_is_what_was_published() -> None:
    known = {name: set_info(name) for name in set_ids()}
    assert {name: (info.num_classes, info.num_test, len(info.templates)) for name, info in known.items()} == COUNTS
    for info in known.values():
        assert all(template.count("{}") == 1 for template in info.templates), info.id
        assert len(info.aliases) == len(info.classes)
        assert all(name == name.strip() for name in info.classes)
        assert set(info.optional) <= set(info.classes)
        assert info.get
        assert info.licence
        if not info.id.startswith("imagenet"):  # which has two 'missile's and two 'sunglasses'
            assert len(set(info.classes)) == len(info.classes), info.id


def test_imagenet_has_the_names_and_prompts_of_clip_and_its_relatives_have_those_of_their_classes() -> None:
    imagenet = set_info("imagenet")
    assert imagenet.classes == tuple(IMAGENET_CLASSNAMES)
    assert list(imagenet.templates) == [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
    assert [names[1] for names in imagenet.aliases] == _IMAGENET_CATEGORIES
    by_wnid = {names[0]: name for names, name in zip(imagenet.aliases, imagenet.classes, strict=True)}
    assert list(by_wnid) == sorted(by_wnid)
    for relative in ("imagenet_r", "imagenet_sketch", "tiny_imagenet"):
        info = set_info(relative)
        wnids = [names[0] for names in info.aliases]
        assert wnids == sorted(wnids)
        assert [by_wnid[wnid] for wnid in wnids] == list(info.classes)


def test_suites_name_known_sets_once() -> None:
    assert {name: len(sets) for name, sets in SUITES.items()} == {"digits": 1, "clip14": 14, "tima": 10, "advclip8": 8}
    for sets in SUITES.values():
        assert set(sets) <= set(set_ids())
        assert len(set(sets)) == len(sets)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: suite_sets("clip13"), "unknown suite 'clip13', expected one of: .*; did you mean 'clip14'"),
        (lambda: set_info("imagenet-r"), "unknown data set 'imagenet-r', .*; did you mean 'imagenet_r'"),
        (lambda: missing("all", "/"), "unknown suite 'all'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(ask: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ask()


def test_the_lists_are_read_without_torch() -> None:
    code = "import sys; from robustcore.suites import *; import robustcore.suites as s; s.set_info('imagenet'); "
    run = subprocess.run([sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


def test_names_are_matched_whatever_their_order_and_spelling() -> None:
    info = set_info("stl10")
    assert clip_names(info, [name.upper() for name in STL10], "here") == STL10
    assert clip_names(info, STL10[::-1], "here") == STL10[::-1]
    folders = [names[0] for names in set_info("eurosat").aliases]
    assert clip_names(set_info("eurosat"), folders[::-1], "here") == set_info("eurosat").classes[::-1]
    synset_names = [names[1] for names in set_info("imagenet").aliases]
    assert clip_names(set_info("imagenet"), synset_names, "here") == set_info("imagenet").classes
    assert clip_names(set_info("imagenet"), IMAGENET_CLASSNAMES, "here") == tuple(IMAGENET_CLASSNAMES)


def test_a_few_other_words_in_the_same_order_are_the_same_classes() -> None:
    stored = ["aeroplane", *STL10[1:]]
    assert clip_names(set_info("stl10"), stored, "here") == STL10


def test_an_optional_class_may_be_stored_or_not() -> None:
    info = set_info("caltech101")
    assert clip_names(info, info.classes[1:], "here") == info.classes[1:]
    assert clip_names(info, info.classes, "here") == info.classes


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (STL10[:9], "stl10: here has 9 classes, expected 10$"),
        (("aeroplane", *STL10[:0:-1]), "the classes of here are others: class 0 is 'aeroplane', expected 'airplane'$"),
        (tuple("abcdefghij"), "the classes of here are others: class 0 is 'a', expected 'airplane'$"),
        ((*STL10[:9], "ship"), "here has the class 'ship' twice$"),
    ],
)
def test_other_classes_are_refused(stored: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        clip_names(set_info("stl10"), stored, "here")


def features(names: Any) -> dict[str, Any]:
    return {"label": {"names": list(names), "_type": "ClassLabel"}}


def parquet(root: Path, names: Any = STL10, **columns: Any) -> Path:
    count = len(names)
    images, labels = [coloured(index) for index in range(count)], list(range(count))
    metadata = {"class_names": json.dumps(list(names))} if not columns.pop("unnamed", False) else None
    path = root / columns.pop("path", "stl10.parquet")
    return write_parquet(path, images, labels, metadata=metadata, **columns)


def shards(root: Path) -> None:
    files: dict[str, bytes] = {}
    for label in range(10):
        files |= {f"{label}.png": coloured(label), f"{label}.cls": str(label).encode()}
    write_tar(root / "wds_stl10" / "test" / "0.tar", files)
    (root / "wds_stl10" / "classnames.txt").write_text("\n".join(STL10))


def hugging_face(root: Path) -> None:
    saved(root / "STL-10" / "test", (10,), labels=list(range(10)), features={}, names=("img", "labels"))
    (root / "STL-10" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')


FORMS = {
    "a Parquet file": (parquet, Parquet, None),
    "its split": (lambda root: parquet(root, split=["test"] * 10), Parquet, "test"),
    "another word for it": (lambda root: parquet(root, split=["validation"] * 10), Parquet, "validation"),
    "a folder of Parquet": (lambda root: parquet(root, path="stl10/test-00000-of-00001.parquet"), Parquet, "test"),
    "without names": (lambda root: parquet(root, unnamed=True), Parquet, None),
    "tar shards": (shards, WebDataset, "test"),
    "a Hugging Face folder": (hugging_face, HuggingFace, "test"),
    "images by class": (lambda root: in_folders(root / "stl-10", STL10), Folder, None),
    "images by split": (lambda root: in_folders(root / "stl10" / "test", STL10), Folder, "test"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_set_is_found_in_every_form_with_the_names_of_clip(form: str, tmp_path: Path) -> None:
    write, kind, split = FORMS[form]
    write(tmp_path)
    source = resolve("stl10", str(tmp_path), limit=4)
    assert isinstance(source, kind)
    assert source.split == split
    images = source.open()
    assert images.classes == STL10
    assert len(images.labels) == 4


def test_the_layout_of_torchvision_is_found_below_the_root_and_a_folder_of_its_own(tmp_path: Path) -> None:
    info = set_info("eurosat")
    eurosat(tmp_path, [names[0] for names in info.aliases])
    source = resolve("eurosat", str(tmp_path))
    assert isinstance(source, Torchvision)
    assert source.open().classes == info.classes


def test_labels_in_another_order_keep_their_own_names(tmp_path: Path) -> None:
    parquet(tmp_path, STL10[::-1])
    assert resolve("stl10", str(tmp_path)).open().classes == STL10[::-1]


def test_the_digits_need_no_folder() -> None:
    assert resolve("digits", "/nothing") == Digits("test")
    assert missing("digits", "/nothing") == []


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (
            lambda root: None,
            "stl10: not found below .*; looked .*; get it with: python -c .*STL10.'/.*', download",
        ),
        (lambda root: parquet(root, STL10[:9]), "stl10: .* has 9 classes, expected 10$"),
        (lambda root: parquet(root, STL10[:9], unnamed=True), "stl10: .* has labels 0 to 8, expected 0 to 9$"),
        (lambda root: parquet(root, split=["train"] * 10), "stl10: .* has no split 'test', expected one of: train$"),
        (lambda root: parquet(root, path="stl10/train-0.parquet"), "stl10: .* has no split 'test'"),
        (lambda root: in_folders(root / "stl10" / "train", STL10), "stl10: not found below"),
        (lambda root: write_tar(root / "stl10" / "a.tar", {"a.png": b""}), r"stl10: .*a\.tar: sample 'a' has no label"),
        (lambda root: (root / "stl10.parquet").write_bytes(b"PAR1"), "stl10: .* is not a readable Parquet file"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_begins_with_the_set(
    write: Any, sentence: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=f"^{sentence}") as caught:
        resolve("stl10", str(tmp_path))
    assert "\n" not in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_every_missing_set_of_a_suite_has_a_sentence(tmp_path: Path) -> None:
    parquet(tmp_path)
    sentences = missing("clip14", str(tmp_path))
    expected = [name for name in suite_sets("clip14") if name != "stl10"]
    assert [sentence.partition(":")[0] for sentence in sentences] == expected
    assert len(missing("tima", str(tmp_path / "nothing"))) == 10
