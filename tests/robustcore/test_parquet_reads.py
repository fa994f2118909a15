"""How little of a Parquet set is read: labels at first, then one row group after the other, and never the whole."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustcore.data import Pixels, Preprocessing
from robustcore.data.loaders import training_batches
from robustcore.data.rows import OPEN_GROUPS
from tests.robustcore.greys import greys, opened, written


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """The row groups read from here on, and which columns of them."""
    seen: list[tuple[int, list[str]]] = []
    read = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, number: int, columns: list[str], **options: Any) -> pa.Table:
        seen.append((number, columns))
        return read(file, number, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    monkeypatch.delattr(pq.ParquetFile, "read")  # the whole file at once
    return seen


def image_reads(reads: list[tuple[int, list[str]]]) -> list[int]:
    return [number for number, columns in reads if "image" in columns]


def test_opening_a_set_reads_no_image(tmp_path: Path, reads: list[tuple[int, list[str]]]) -> None:
    opened(written(tmp_path / "a.parquet", row_group_size=3))
    assert reads
    assert image_reads(reads) == []


def test_images_in_order_cost_one_read_a_row_group(tmp_path: Path, reads: list[tuple[int, list[str]]]) -> None:
    greys(opened(written(tmp_path / "a.parquet", 60, row_group_size=5)))
    assert image_reads(reads) == list(range(12))


def test_only_so_many_row_groups_stay_in_memory(tmp_path: Path, reads: list[tuple[int, list[str]]]) -> None:
    images = opened(written(tmp_path / "a.parquet", OPEN_GROUPS + 1, row_group_size=1))
    for index in [*range(OPEN_GROUPS), 0, OPEN_GROUPS - 1]:
        images.decode(index)
    assert len(image_reads(reads)) == OPEN_GROUPS
    images.decode(OPEN_GROUPS)  # 1 is the one that was used longest ago
    images.decode(0)
    assert len(image_reads(reads)) == OPEN_GROUPS + 1
    images.decode(1)
    assert image_reads(reads)[-1] == 1


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_epoch_reads_each_row_group_about_once_over_all_workers(
    world_size: int, tmp_path: Path, reads: list[tuple[int, list[str]]]
) -> None:
    """A group at the seam of two of the sixteen streams is read for both."""
    path = written(tmp_path / "a.parquet", 640, row_group_size=8)
    touched = []
    for rank in range(world_size):
        reads.clear()
        pixels = Pixels(opened(path), Preprocessing(4))
        for _ in training_batches(pixels, 32, 0, range(20), rank, world_size):
            pass
        touched.append(image_reads(reads))
    for numbers in touched:
        assert len(numbers) <= 80 / world_size + 16
        assert len(set(numbers)) <= 80 / world_size + 1
    assert set().union(*touched) == set(range(80))
