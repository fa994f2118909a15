"""One torch thread, whatever runs beside the tests; and a few of the real digits as a Parquet file."""

from pathlib import Path

import pytest
import torch

from tests.support import write_digits

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 training and 47 test images: neither divides evenly."""
    return write_digits(tmp_path_factory.mktemp("digits") / "digits.parquet", 67, 47)
