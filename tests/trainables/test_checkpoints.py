"""Checkpoints: what was saved is loaded, what is damaged is passed over; nothing but tensors and JSON is written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustcore.finetune import State
from robustcore.storage import Folder
from trainables.checkpoints import Checkpoint, Report, find_checkpoint, load_checkpoint, save_checkpoint


def checkpoint(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weights = {"visual.proj": torch.randn(3, 2, generator=generator), "visual.bias": torch.zeros(())}
    optimizer = {
        "visual.proj/exp_avg": torch.randn(2, 3, generator=generator).T,  # not contiguous
        "visual.proj/step": torch.tensor(float(step)),
        "visual.bias/half": torch.ones(2, dtype=torch.bfloat16),
    }
    reports = [Report(at, {"clean": at / 10, "pgd/digits": 0.1}, 1.5 * at, False) for at in range(2, step + 1, 2)]
    return Checkpoint(State(step, weights, optimizer), reports)


def saved(root: Path, *steps: int, fingerprint: str = "recipe") -> Folder:
    folder = Folder(str(root / "trial"))
    for step in steps:
        save_checkpoint(folder, fingerprint, checkpoint(step))
    return folder


def assert_is(found: Checkpoint | None, step: int) -> None:
    expected = checkpoint(step)
    assert found is not None
    assert found.state.step == step
    assert found.reports == expected.reports
    for one, other in (
        (found.state.weights, expected.state.weights),
        (found.state.optimizer, expected.state.optimizer),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) and value.dtype == other[name].dtype for name, value in one.items())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert_is(load_checkpoint(saved(tmp_path, 2), "recipe"), 2)


def test_the_newest_is_loaded(tmp_path: Path) -> None:
    assert_is(load_checkpoint(saved(tmp_path, 2, 4, 100, 1000), "recipe"), 1000)


def test_there_is_none_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert load_checkpoint(Folder(str(tmp_path / "nowhere")), "recipe") is None


def test_only_the_two_last_pairs_are_kept(tmp_path: Path) -> None:
    pairs = [f"step-{step:08d}.{suffix}" for step in (6, 8) for suffix in ("json", "safetensors")]
    assert saved(tmp_path, 2, 4, 6, 8).names() == pairs


def test_the_files_are_json_and_safetensors_alone(tmp_path: Path) -> None:
    saved(tmp_path, 2, 4)
    for path in (tmp_path / "trial").iterdir():
        if path.suffix == ".json":
            assert json.loads(path.read_text())["fingerprint"] == "recipe"
        else:
            assert path.suffix == ".safetensors"
            assert load_file(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose(path: Path) -> None:
    path.unlink()


DAMAGE = [(how, suffix) for how in (cut, flip, empty, lose) for suffix in ("json", "safetensors")]


@pytest.mark.parametrize(("damage", "suffix"), DAMAGE)
def test_a_damaged_pair_is_passed_over_for_the_one_before(
    damage: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path, 2, 4)
    damage(tmp_path / "trial" / f"step-00000004.{suffix}")
    found, said = find_checkpoint(folder, "recipe")
    assert_is(found, 2)
    is_unseen = (damage, suffix) == (lose, "json")  # as one that was never finished
    assert ["step-00000004" in sentence for sentence in said] == ([] if is_unseen else [True])
    damage(tmp_path / "trial" / f"step-00000002.{suffix}")
    assert load_checkpoint(folder, "recipe") is None


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path: Path) -> None:
    folder = saved(tmp_path, 2, 4)
    for path in sorted((tmp_path / "trial").glob("step-00000004.*")):
        whole = path.read_bytes()
        for position in range(0, len(whole), 7):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            found = load_checkpoint(folder, "recipe")
            assert found is not None
            assert_is(found, found.state.step)
        path.write_bytes(whole)


def test_storage_that_fails_is_not_taken_for_a_trial_without_checkpoints(tmp_path: Path) -> None:
    folder = replace(saved(tmp_path, 2, 4), home=str(tmp_path / "gone"))
    with pytest.raises(OSError, match="gone"):
        load_checkpoint(folder, "recipe")


def test_a_run_that_went_back_to_the_pair_before_goes_on_writing(tmp_path: Path) -> None:
    folder = saved(tmp_path, 2, 4)
    cut(tmp_path / "trial" / "step-00000004.safetensors")
    save_checkpoint(folder, "recipe", checkpoint(4))
    assert_is(load_checkpoint(folder, "recipe"), 4)


def test_the_checkpoint_of_another_recipe_is_not_used(tmp_path: Path) -> None:
    folder = saved(tmp_path, 2, 4)
    assert load_checkpoint(folder, "another") is None
    assert_is(load_checkpoint(folder, "recipe"), 4)
