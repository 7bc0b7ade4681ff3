import sys
from pathlib import Path

import pytest

# The benchmarks import modules of their folder, as they do when run as scripts.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test of a benchmark as slow, except those of the formula in delong.py."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name != "test_delong.py":
            item.add_marker(pytest.mark.slow)
