from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources.hierarchy import hierarchical_paths


def largest_folder(paths: list[str]) -> int:
    """The most entries, files and subfolders together, that any folder of these paths has."""
    entries = defaultdict(set)
    for path in paths:
        folder = ""
        for name in path.split("/"):
            entries[folder].add(name)
            folder += f"/{name}"
    return max(len(names) for names in entries.values())


@pytest.mark.parametrize("images", [1, 50, 51, 2_501, 125_000, 125_001, 131_748, 223_414])
def test_no_folder_has_more_than_50_entries(images):
    paths = hierarchical_paths(np.arange(images))
    assert largest_folder(paths) <= 50
    assert len(set(paths)) == images


def test_ids_with_gaps_keep_to_the_limit_too():
    ids = np.random.default_rng(0).choice(223_414, size=131_748, replace=False)
    paths = hierarchical_paths(ids)
    assert largest_folder(paths) <= 50
    assert [int(PurePosixPath(path).stem[1:]) for path in paths] == ids.tolist()


@pytest.mark.parametrize("folder_size", [2, 7, 10])
def test_another_limit_is_kept(folder_size):
    assert largest_folder(hierarchical_paths(np.arange(3_000), folder_size)) <= folder_size


def test_the_levels_follow_from_the_largest_id_and_are_at_least_two():
    assert hierarchical_paths(np.array([7])) == ["data/d0/d0/i7.jpg"]
    assert hierarchical_paths(np.array([7, 124_999]))[1].count("/d") == 2
    assert hierarchical_paths(np.array([7, 125_000])) == ["data/d0/d0/d0/i7.jpg", "data/d1/d0/d0/i125000.jpg"]


def test_no_ids_no_paths():
    assert hierarchical_paths(np.array([], dtype=np.int64)) == []


def test_extensions_are_kept():
    assert hierarchical_paths(np.array([7, 8]), extensions=[".png", ".dcm"]) == [
        "data/d0/d0/i7.png",
        "data/d0/d0/i8.dcm",
    ]


@pytest.mark.parametrize("folder_size", [1, 0, -5, 2.5, True])
def test_a_folder_of_fewer_than_two_entries_is_refused(folder_size):
    with pytest.raises(HilumError, match="folder_size must be a whole number of entries, 2 or more"):
        hierarchical_paths(np.array([7]), folder_size)
