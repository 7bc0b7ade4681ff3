"""Every recipe is valid, has the stated settings, and trains, here at a small size."""

from pathlib import Path

import pytest

from hilum.config import RunConfig, settings_from_toml
from hilum.training.run import StandardTraining

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml"))

#: The founding document's tables [8] and [9], with the current names. The epochs of [8] are not legible.
DOCUMENT = {
    "number_images": 0,
    "learning_rate": 1e-05,
    "num_epochs": 4,
    "epoch_args": "standard",
    "use_positivity_weights": True,
    "affine_degrees": 5,
    "translate_fraction": 0.05,
    "shear_degrees": 5,
    "brightness_jitter": 0.2,
    "contrast_jitter": 0.1,
    "aug_fraction": 0.4,
    "observation_min_count": 150,
    "l2_reg": 0.1,
    "loss_reduction": "sum",
    "target_columns": ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural_Effusion"),
    # Fixed in its training:
    "optimizer": "adam",
    "loss": "bce",
    "schedule": "constant",
    "precision": "32",
}
DOCUMENTS_RUNS = {
    "resnet34-chexpert-2020": {
        "net_name": "resnet_grayscale",
        "net_kwargs": {"layers": 34, "drop_out_percent": 0.5},
        "batch_size": 64,
        "image_width": 320,
        "image_height": 320,
    },
    "densenet-chexpert-2020": {
        "net_name": "densenet",
        "net_kwargs": {},
        "batch_size": 16,
        "image_width": 224,
        "image_height": 224,
    },
}

#: Further changes for the small size: smaller networks, and no weights that need a download.
SMALLER = {
    "resnet34-chexpert-2020": {"net_kwargs": {"layers": 18, "drop_out_percent": 0.5}},
    "densenet-chexpert-2020": {
        "net_kwargs": {"growth_rate": 4, "block_config": [1, 1, 1, 1], "initial_features": 8}
    },
    "chexpert-strong": {"net_kwargs": {"pretrained": False}},
}


def test_all_recipes_exist():
    assert RECIPES == [
        "chexpert-strong",
        "densenet-chexpert-2020",
        "laptop-cpu",
        "nih-sample",
        "resnet34-chexpert-2020",
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_is_valid_and_none_depends_on_a_machine(name):
    config = RunConfig(**settings_from_toml(FOLDER / f"{name}.toml"))
    assert config.split_unit == "patient"
    assert (config.root, config.pack, config.hierarchy, config.split_file) == (None,) * 4
    assert config.save_path == Path("runs")
    assert config.name is None


@pytest.mark.parametrize("name", DOCUMENTS_RUNS)
def test_the_documents_runs_have_the_documents_values(name):
    config = RunConfig(**settings_from_toml(FOLDER / f"{name}.toml"))
    expected = DOCUMENT | DOCUMENTS_RUNS[name]
    assert {setting: getattr(config, setting) for setting in expected} == expected


@pytest.mark.parametrize("name", RECIPES)
def test_each_shows_its_command(name):
    command = f"hilum train recipes/{name}.toml --root DIR"
    assert command in (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    assert command in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning")  # few images lack positives
@pytest.mark.parametrize("name", RECIPES)
def test_each_trains(name, request, tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.training.run.write_figures", lambda folder, metrics: [])
    monkeypatch.setattr("hilum.training.run.write_report", lambda folder: None)
    settings = settings_from_toml(FOLDER / f"{name}.toml")
    small = {
        "root": request.getfixturevalue("nih_tree" if settings["source"] == "nih" else "chexpert_tree"),
        "image_width": 32,
        "image_height": 32,
        "number_images": 0,
        "val_fraction": 0.4,
        "num_epochs": 1,
        "batch_size": 8,
        "observation_min_count": 2 if "observation_min_count" in settings else None,
        "device": "cpu",
        "precision": "32",
        "num_workers": 0,
        "save_path": tmp_path,
        "quiet": True,
        "epoch_args": "none",
    }
    training = StandardTraining(**settings | small | SMALLER.get(name, {}))
    training.train()
    assert training.folder.record["status"] == "finished"
    assert training.folder.epochs() == [1]
