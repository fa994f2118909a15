"""A few of the real digits as a Parquet file, written once for all tests here."""

from pathlib import Path

import pytest

from tests.support import write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 training and 31 test images: neither divides evenly."""
    return write_digits(tmp_path_factory.mktemp("digits") / "digits.parquet", 67, 31)
