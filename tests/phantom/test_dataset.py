import hashlib
import json
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from hilum.errors import HilumError
from hilum.phantom import dataset, write_phantom
from hilum.phantom.cohort import COLUMNS
from hilum.sources import open_catalog
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


def test_missing_parameters_are_those_of_the_phantom_in_the_folder(drawn):
    before = (drawn / "phantom.json").stat().st_mtime_ns
    assert len(open_catalog("phantom", drawn, seed=3)) == len(open_catalog("phantom", drawn))
    assert (drawn / "phantom.json").stat().st_mtime_ns == before


def test_other_parameters_than_drawn_are_refused_by_name(drawn):
    with pytest.raises(HilumError, match="seed"):
        open_catalog("phantom", drawn, seed=4)


def test_no_leak_can_be_asked_for(tmp_path):
    open_catalog("phantom", tmp_path / "none", images=20, size=32, leak="none")
    assert json.loads((tmp_path / "none" / "phantom.json").read_text())["leak"] is None


def test_a_damaged_record_is_named_and_not_overwritten(tmp_path):
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


SMALL = {"images": 60, "size": 48, "workers": 1}


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "new" / "folder", seed=2, **SMALL)


@pytest.fixture(scope="module")
def table(root) -> pd.DataFrame:
    return pd.read_csv(root / "train.csv", dtype=str)


def test_the_csv_is_written_as_chexpert_writes_it(table):
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 60
    assert set(table.iloc[:, 5:].fillna("").to_numpy().ravel()) == {"1.0", "0.0", "-1.0", ""}
    assert table["Age"].str.fullmatch(r"\d+").all()
    pattern = r"CheXpert-phantom/train/patient\d{5}/study\d+/view\d_(frontal|lateral)\.jpg"
    assert table["Path"].str.fullmatch(pattern).all()
    assert table["Path"].is_unique


def test_every_row_has_its_image_and_every_image_its_row(root, table):
    listed = {path.split("/", 1)[1] for path in table["Path"]}
    assert listed == {path.relative_to(root).as_posix() for path in root.glob("train/**/*.jpg")}
    for path in sorted(listed)[:10]:
        image = cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED)
        assert image.shape == (48, 48)
        assert image.dtype == np.uint8


def test_only_a_positive_finding_of_a_frontal_view_has_a_mask(root, table):
    expected = set()
    for row in table[table["Frontal/Lateral"] == "Frontal"].to_dict("records"):
        folder = Path("masks", row["Path"].split("/", 2)[2]).with_suffix("")
        expected |= {
            folder / f"{name}.png" for name in CHEXPERT_TARGETS if row[name.replace("_", " ")] == "1.0"
        }
    found = {path.relative_to(root) for path in root.glob("masks/**/*.png")}
    assert found == expected
    for path in sorted(found)[:20]:
        mask = cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (48, 48)
        assert set(np.unique(mask)) == {0, 255}


def test_the_bytes_depend_on_the_seed_alone(root, tmp_path):
    again = write_phantom(tmp_path / "again", seed=2, **SMALL)
    other = write_phantom(tmp_path / "other", seed=3, **SMALL)
    assert digest(again) == digest(root)
    assert digest(other)["train.csv"] != digest(root)["train.csv"]


def test_the_number_of_workers_changes_nothing(root, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_WORTH_WORKERS", 0)
    assert digest(write_phantom(tmp_path / "two", seed=2, **SMALL | {"workers": 2})) == digest(root)


def test_masks_can_be_left_out(tmp_path):
    root = write_phantom(tmp_path / "bare", masks=False, **SMALL | {"images": 20})
    assert not (root / "masks").exists()


def test_progress_ends_at_the_number_of_images(tmp_path):
    calls = []
    write_phantom(tmp_path / "progress", progress=lambda done, total: calls.append((done, total)), **SMALL)
    assert calls[-1] == (60, 60)
    assert calls == sorted(calls)


def test_a_complete_phantom_is_not_drawn_again(root, monkeypatch):
    monkeypatch.setattr(dataset, "draw_image", lambda *_: pytest.fail("drawn again"))
    before = digest(root)
    assert write_phantom(root, seed=2, **SMALL) == root
    assert digest(root) == before


def test_a_partial_phantom_is_completed(root, tmp_path, monkeypatch):
    half = tmp_path / "half"
    drawn = iter(range(30))
    draw = dataset.draw_image

    def interrupted(plan, size):
        if next(drawn, None) is None:
            raise KeyboardInterrupt
        return draw(plan, size)

    monkeypatch.setattr(dataset, "draw_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(half, seed=2, **SMALL)
    assert not (half / "phantom.json").exists()
    with pytest.raises(HilumError, match="seed 2, not 4"):
        write_phantom(half, seed=4, **SMALL)
    monkeypatch.undo()
    next(half.rglob("*.jpg")).write_bytes(b"cut short")
    assert digest(write_phantom(half, seed=2, **SMALL)) == digest(root)


def test_other_parameters_are_refused_by_name(root):
    with pytest.raises(HilumError, match=r"images 60, not 80; leak 'acuity', not None.*delete"):
        write_phantom(root, seed=2, leak=None, **SMALL | {"images": 80})
    assert json.loads((root / "phantom.json").read_text())["images"] == 60


def test_a_folder_with_other_files_is_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(HilumError, match="not empty and is not a phantom"):
        write_phantom(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_instead_of_a_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(HilumError, match="is a file"):
        write_phantom(tmp_path / "taken", **SMALL)


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(HilumError, match="cannot be read"):
        write_phantom(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 19}, "images is 19. Give a whole number of 20 or more"),
        ({"images": 20.5}, "images is 20.5"),
        ({"size": 31}, "size is 31"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
        ({"workers": 0}, "workers is 0"),
        ({"leak": "effusions"}, "Did you mean 'effusion'"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(HilumError, match=message):
        write_phantom(tmp_path / "none", **SMALL | wrong)
    assert not (tmp_path / "none").exists()
