"""Tests of hilum.notebook, locally and on a simulated Google Colab."""

import json
import sys
import types
from pathlib import Path

import pytest

from hilum.errors import HilumError
from hilum.notebook import Place, bootstrap


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    for name in ("HILUM_DATA", "HILUM_RUNS", "HILUM_NOTEBOOKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # bootstrap changes the working directory; monkeypatch restores it


def make_place(home: Path, **others) -> Place:
    return Place(home=home, data=home / "data", runs=home / "runs", device="cpu", **others)


def colab(monkeypatch, drive_folder: str | None) -> list[str]:
    """Installs a google.colab whose Drive has this folder after mounting; returns the list of mounts."""
    mounts = []

    def mount(folder: str) -> None:
        mounts.append(folder)
        (Path(folder) / "MyDrive").mkdir(parents=True)
        if drive_folder:
            (Path(folder) / "MyDrive" / drive_folder).mkdir()

    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return mounts


def test_on_a_local_machine_home_is_the_clone_that_contains_the_notebook(monkeypatch, tmp_path):
    (tmp_path / "clone" / "notebooks" / "support").mkdir(parents=True)
    (tmp_path / "clone" / "hilum").mkdir()
    monkeypatch.chdir(tmp_path / "clone" / "notebooks" / "support")
    place = bootstrap()
    assert place.home == Path.cwd() == tmp_path / "clone"
    assert (place.data, place.runs) == (place.home / "data", place.home / "runs")
    assert not place.colab
    assert not place.small
    assert "this machine, device " in str(place)
    assert "the phantom replaces it" in str(place)


def test_outside_a_clone_home_is_the_starting_folder(tmp_path):
    assert bootstrap().home == tmp_path


def test_environment_variables_set_other_folders_and_the_small_size(monkeypatch, tmp_path):
    monkeypatch.setenv("HILUM_DATA", str(tmp_path / "images"))
    monkeypatch.setenv("HILUM_RUNS", str(tmp_path / "results"))
    monkeypatch.setenv("HILUM_NOTEBOOKS", "small")
    place = bootstrap()
    assert (place.data, place.runs) == (tmp_path / "images", tmp_path / "results")
    assert place.choose(full=5, small=1) == 1


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_device_is_a_gpu_if_torch_has_one(monkeypatch, gpu, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert bootstrap().device == device


def test_on_colab_the_drive_is_mounted_once_and_home_is_the_clone_in_it(monkeypatch, tmp_path):
    mounts = colab(monkeypatch, drive_folder="hilum")
    drive = tmp_path / "content" / "drive"
    for _ in range(2):
        place = bootstrap(drive)
    assert mounts == [str(drive)]
    assert place.colab
    assert place.home == Path.cwd() == drive / "MyDrive" / "hilum"
    assert "Google Colab" in str(place)


def test_a_drive_without_a_clone_is_an_error(monkeypatch, tmp_path):
    colab(monkeypatch, drive_folder=None)
    with pytest.raises(HilumError, match="Put the clone of Hilum there, in your Drive"):
        bootstrap(tmp_path / "content" / "drive")


def test_a_pack_is_preferred_to_a_hierarchy_and_a_hierarchy_to_files(monkeypatch, tmp_path):
    colab(monkeypatch, drive_folder="hilum")
    place = bootstrap(tmp_path / "drive")
    (place.data / "CheXpert-v1.0-small").mkdir(parents=True)
    settings = place.settings("chexpert", 320, 320)
    assert settings["root"] == place.data / "CheXpert-v1.0-small"
    assert "pack" not in settings
    assert "hierarchy" not in settings

    (place.data / "chexpert-folders").mkdir()
    (place.data / "chexpert-folders" / "hierarchy.parquet").touch()
    assert place.settings("chexpert", 320, 320)["hierarchy"] == place.data / "chexpert-folders"

    (place.data / "packed").mkdir()
    record = {"catalog": "chexpert", "width": 320, "height": 320}
    (place.data / "packed" / "pack.json").write_text(json.dumps(record))
    settings = place.settings("chexpert", 320, 320)
    assert settings["pack"] == str(place.data / "packed")
    assert "hierarchy" not in settings
    assert "pack" not in place.settings("chexpert", 224, 224), "a pack of another size is not used"


def test_the_phantom_replaces_an_absent_data_set(tmp_path, capsys):
    settings = make_place(tmp_path, small=True).settings("nih", 32, 48)
    assert settings["source"] == "phantom"
    assert "root" not in settings
    assert (settings["image_width"], settings["image_height"], settings["num_workers"]) == (32, 48, 0)
    assert "nih is not in" in capsys.readouterr().out


def test_an_unknown_data_set_is_an_error(tmp_path):
    with pytest.raises(HilumError, match="no data set 'chexprt'"):
        make_place(tmp_path).folder("chexprt")


def test_the_settings_are_valid_for_a_run(tmp_path):
    from hilum import RunConfig

    (tmp_path / "data" / "nih").mkdir(parents=True)
    assert RunConfig(**make_place(tmp_path).settings("nih", 64, 64)).source == "nih"
