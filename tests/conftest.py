"""Every test runs as a trial of one CPU does, with one thread; and the slowest files come first."""

import pytest
import torch

torch.set_num_threads(1)

# Two processes take file after file: what they end with must be short.
SLOWEST = ("test_pool_of_machines.py", "test_train_runs.py", "test_launch.py", "test_shipped.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOWEST)
