import json
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from filelock import FileLock

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.phantom import write_phantom
from hilum.targets import CHEXPERT_TARGETS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    write_phantom(root, images=60, size=32, seed=3, workers=1)
    return root


def test_a_phantom_is_cleaned_as_chexpert_is(drawn):
    catalog = open_catalog("phantom", drawn)
    assert catalog.name == "phantom"
    assert catalog.targets == CHEXPERT_TARGETS
    assert catalog.table["StudyID"].max() <= 4
    assert all("frontal" in path for path in catalog.table["Image_Path"])
    assert catalog.image_path(catalog.table.index[0]).is_file()
    assert catalog.pixel_stats is None


def test_what_is_left_out_is_as_the_phantom_there_has_it(drawn):
    before = (drawn / "phantom.json").stat().st_mtime_ns
    assert len(open_catalog("phantom", drawn, seed=3)) == len(open_catalog("phantom", drawn))
    assert (drawn / "phantom.json").stat().st_mtime_ns == before


def test_other_parameters_than_drawn_are_refused_by_name(drawn):
    with pytest.raises(HilumError, match="seed"):
        open_catalog("phantom", drawn, seed=4)


def test_no_leak_can_be_asked_for(tmp_path):
    open_catalog("phantom", tmp_path / "none", images=20, size=32, leak="none")
    assert json.loads((tmp_path / "none" / "phantom.json").read_text())["leak"] is None


def test_a_damaged_record_is_named_and_nothing_is_drawn_over_it(tmp_path):
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(HilumError, match=r"phantom\.json"):
        open_catalog("phantom", tmp_path)
    assert (tmp_path / "phantom.json").read_text() == "{"


def test_all_studies_can_be_kept(drawn):
    assert len(open_catalog("phantom", drawn, max_studies=None)) >= len(open_catalog("phantom", drawn))


def test_without_a_root_it_is_kept_in_the_cache(own_cache):
    catalog = open_catalog("phantom", None, images=20, size=32)
    assert own_cache in catalog.root.parents


def test_one_process_draws_and_the_others_wait(tmp_path):
    root, lock = tmp_path / "phantom", FileLock(tmp_path / "phantom.lock")
    with ThreadPoolExecutor(1) as pool:
        with lock:  # as another process that is drawing holds it
            waiting = pool.submit(open_catalog, "phantom", root, images=40, size=32)
            assert not wait([waiting], timeout=0.5).done
            assert not root.exists()
            write_phantom(root, images=40, size=32, workers=1)
            drawn_at = (root / "phantom.json").stat().st_mtime_ns
        catalog = waiting.result(timeout=60)
    assert len(catalog) > 20
    assert (root / "phantom.json").stat().st_mtime_ns == drawn_at, "it was not drawn again"
    assert not (tmp_path / "phantom.lock").exists()
