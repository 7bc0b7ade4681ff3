import os

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.images import read_gray
from hilum.sources.medmnist import LABELS
from hilum.targets import NIH_TARGETS

COUNTS = {"train": 6, "val": 2, "test": 3}


def arrays_of(labels=14, size=28, counts=COUNTS, **changes):
    """The six arrays of a MedMNIST file; each image is filled with its place in the whole set."""
    draw, arrays, first = np.random.default_rng(5), {}, 0
    for part, count in counts.items():
        fill = np.arange(first, first + count, dtype=np.uint8)
        arrays[f"{part}_images"] = np.broadcast_to(fill[:, None, None], (count, size, size)).copy()
        arrays[f"{part}_labels"] = draw.integers(0, 2, (count, labels)).astype(np.uint8)
        first += count
    arrays |= changes
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.fixture
def save(tmp_path):
    def write(name="chestmnist.npz", **arrays):
        np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return write


@pytest.mark.parametrize("size", [28, 64])
def test_chestmnist_has_its_labels_by_name_and_its_pixels_in_the_cache(save, own_cache, size):
    arrays = arrays_of(size=size)
    catalog = open_catalog("medmnist", save(**arrays))
    assert catalog.targets == NIH_TARGETS
    for position, label in enumerate(LABELS["chestmnist"]):
        target = {"effusion": "Pleural_Effusion", "pleural": "Pleural_Thickening"}.get(
            label, label.capitalize()
        )
        expected = np.concatenate([arrays[f"{part}_labels"][:, position] for part in COUNTS])
        np.testing.assert_array_equal(catalog.table[target], expected)
    for image_id in catalog.table.index:
        pixels = read_gray(catalog.image_path(image_id))
        assert pixels.dtype == np.uint8
        assert (pixels == image_id).all()
        assert pixels.shape == (size, size)
    assert own_cache in catalog.root.parents


def test_official_parts_are_fixed_and_each_image_is_its_own_patient(save):
    catalog = open_catalog("medmnist", save(**arrays_of()))
    assert catalog.fixed_split.tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    assert catalog.table["PatientID"].is_unique
    assert catalog.table["Image_Path"].tolist()[5:7] == ["train.npy#5", "val.npy#0"]


def test_pneumoniamnist_is_binary(save):
    arrays = arrays_of(labels=1)
    catalog = open_catalog("medmnist", save("pneumoniamnist_64.npz", **arrays))
    assert catalog.targets == ("Pneumonia",)
    assert catalog.labels()[:6, 0].tolist() == arrays["train_labels"][:, 0].tolist()


def test_the_pixels_are_unpacked_once_and_again_when_they_are_damaged(save, own_cache):
    path = save(**arrays_of())
    folder = open_catalog("medmnist", path).root
    before = {file.name: file.stat().st_ino for file in folder.iterdir()}
    assert sorted(before) == ["test.npy", "train.npy", "val.npy"]
    (folder / "val.npy").write_bytes(b"cut")
    catalog = open_catalog("medmnist", path)
    after = {file.name: file.stat().st_ino for file in folder.iterdir()}
    assert after["train.npy"] == before["train.npy"]
    assert catalog.image_path(6).name == "val.npy#0"
    assert np.load(folder / "val.npy").shape == (2, 28, 28)


def test_the_cache_folder_depends_on_the_content_and_the_fingerprint_not_on_the_folder(save, monkeypatch):
    first = open_catalog("medmnist", save(**arrays_of()))
    other = open_catalog("medmnist", save("chestmnist_64.npz", **arrays_of(size=64)))
    assert first.root != other.root
    monkeypatch.setenv("HILUM_CACHE", str(first.origin.parent / "elsewhere"))
    again = open_catalog("medmnist", first.origin)
    assert again.root != first.root
    assert again.fingerprint == first.fingerprint


def test_a_folder_with_several_files_needs_a_name(save):
    folder = save(**arrays_of()).parent
    assert len(open_catalog("medmnist", folder)) == 11
    save("chestmnist_64.npz", **arrays_of(size=64))
    with pytest.raises(
        HilumError, match=r"expected one \.npz there; found chestmnist, chestmnist_64\. Name it"
    ):
        open_catalog("medmnist", folder)
    catalog = open_catalog("medmnist", folder, name="chestmnist_64")
    assert read_gray(catalog.image_path(0)).shape == (64, 64)
    with pytest.raises(HilumError, match=r"expected chestmnist_128\.npz there"):
        open_catalog("medmnist", folder, name="chestmnist_128")


def test_other_files_need_the_names_of_their_labels(save):
    path = save("breastmnist.npz", **arrays_of(labels=2))
    with pytest.raises(HilumError, match="begins with neither chestmnist nor pneumoniamnist"):
        open_catalog("medmnist", path)
    assert open_catalog("medmnist", path, targets=["mass", "Cough"]).targets == ("Mass", "Cough")


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"val_labels": None}, "the array val_labels is missing; it has train_images, train_labels"),
            ({"test_images": None}, "the array test_images is missing"),
            ({"train_labels": np.zeros((6, 13), np.uint8)}, "train_labels has 13 columns; expected 14: atel"),
            ({"val_labels": np.zeros((5, 14), np.uint8)}, "val_images has 2 images, val_labels 5 rows"),
            ({"val_labels": np.full((2, 14), 2, np.uint8)}, "val_labels, row 0, column 0: 2 is not a label"),
            (
                {"val_labels": np.zeros(2, np.uint8)},
                r"val_labels holds uint8 of shape \(2,\); expected whole",
            ),
            ({"val_labels": np.zeros((2, 14))}, "val_labels holds float64"),
            ({"val_images": np.zeros((2, 28, 28, 3), np.uint8)}, "expected gray uint8 images"),
            ({"val_images": np.zeros((2, 28, 28))}, "val_images holds float64 of shape"),
            ({"val_labels": np.array([["a"] * 14] * 2, dtype=object)}, "not a readable .npz"),
        ],
    )
    def test_arrays_that_do_not_fit(self, save, own_cache, changes, message):
        path = save(**arrays_of(**changes))
        with pytest.raises(HilumError, match=message) as error:
            open_catalog("medmnist", path)
        assert str(error.value).startswith(str(path))
        assert not list(own_cache.iterdir())

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
    def test_a_truncated_file(self, save, share):
        path = save(**arrays_of())
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(HilumError, match=r"chestmnist\.npz: not a readable \.npz"):
            open_catalog("medmnist", path)

    def test_damaged_pixels_are_not_kept(self, save, own_cache, tmp_path):
        np.savez(tmp_path / "chestmnist.npz", **arrays_of())
        path = tmp_path / "chestmnist.npz"
        content = bytearray(path.read_bytes())
        place = content.index(b"\x03" * 700) + 300
        content[place] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(HilumError, match=r"not a readable \.npz: Bad CRC-32"):
            open_catalog("medmnist", path)
        assert not list(own_cache.rglob("*.npy"))

    def test_no_such_place(self, tmp_path):
        with pytest.raises(HilumError, match="there is no such file or folder"):
            open_catalog("medmnist", tmp_path / "none")

    def test_a_cache_that_cannot_be_written(self, save, monkeypatch):
        path = save(**arrays_of())
        monkeypatch.setenv("HILUM_CACHE", os.fspath(path))  # a file, not a folder
        with pytest.raises(HilumError, match=r"cannot be unpacked there .* set HILUM_CACHE"):
            open_catalog("medmnist", path)
