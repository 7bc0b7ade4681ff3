import json
import math

import pytest

from hilum.config import (
    DEFAULTS,
    EPOCH_ARGS,
    AugmentationSettings,
    RunConfig,
    check_effect,
    setting_fields,
    settings_from_file,
    settings_from_toml,
)
from hilum.errors import HilumError


def error_message(**settings) -> str:
    with pytest.raises(HilumError) as raised:
        RunConfig(**settings)
    return str(raised.value)


def test_every_setting_has_a_description():
    assert [name for name, field in setting_fields().items() if not field.description] == []


def test_a_record_gives_the_same_settings():
    config = RunConfig(source="nih", root="x", target_columns="Edema, Mass", net_kwargs={"layers": 34})
    assert RunConfig(**config.as_record()) == config
    assert config.target_columns == ("Edema", "Mass")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        DEFAULTS.num_epochs = 5


def test_an_unknown_setting_is_an_error_with_a_suggestion():
    message = error_message(image_widht=64)
    assert message.startswith("There is no setting 'image_widht'. Did you mean 'image_width'?")
    assert "hilum train --help" in message


def test_an_unknown_setting_without_a_similar_name_has_no_suggestion():
    assert "Did you mean" not in error_message(zzz=1)


def test_several_errors_are_reported_together():
    lines = error_message(imge_width=3, val_fraction=2, learning_rate=0).splitlines()
    assert lines[0] == "3 settings cannot be used:"
    assert [line.split()[1] for line in lines[1:]] == ["val_fraction:", "learning_rate:", "is"]


@pytest.mark.parametrize(
    "value", [1.5, -0.1, math.nan, math.inf, [0.1, 2], [math.nan], {"Edema": 7}, "0.2,0.3"]
)
def test_a_threshold_outside_0_to_1_is_one_error(value):
    message = error_message(target_thresholds=value)
    assert message.startswith(f"Setting target_thresholds: {value!r} must be within 0..1")
    assert "\n" not in message


@pytest.mark.parametrize("value", [None, 0, 1, 0.5, (0.1, 0.9), {"Edema": 0.2}])
def test_every_form_of_thresholds_is_accepted(value):
    assert RunConfig(target_thresholds=value).target_thresholds == value


@pytest.mark.parametrize("name", ["learning_rate", "pixel_mean", "val_fraction", "l2_reg", "number_images"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_invalid(name, value):
    assert error_message(**{name: value}).startswith(f"Setting {name}: {value!r} must be ")


@pytest.mark.parametrize("name", ["num_epochs", "learning_rate", "number_images", "seed", "num_workers"])
def test_true_is_not_a_number(name):
    assert error_message(**{name: True}).startswith(f"Setting {name}: True must be")


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (5, 5), (0.25, 0.25), (5.0, 5), (1.0, 1)])
def test_number_images_is_a_count_or_a_fraction_below_1(value, expected):
    number = RunConfig(number_images=value).number_images
    assert number == expected
    assert isinstance(number, float) == (number == 0.25)


@pytest.mark.parametrize("value", [-1, -0.5, 1.5, "many"])
def test_another_number_of_images_is_one_error(value):
    message = error_message(number_images=value)
    assert message == (
        f"Setting number_images: {value!r} must be a whole number of images, 0 or more, or a fraction below 1."
    )


def test_fractions_must_leave_training_images():
    message = error_message(val_fraction=0.6, test_fraction=0.4)
    assert message.startswith("val_fraction (0.6) and test_fraction (0.4) leave nothing to train on")
    assert RunConfig(val_fraction=0.5, test_fraction=0.4).test_fraction == 0.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_unit": "patients"}, "Setting split_unit: 'patients' must be 'patient' or 'image'"),
        ({"image_width": 15}, "Setting image_width: 15 must be greater than or equal to 16"),
        ({"image_height": 64.5}, "Setting image_height: 64.5 must be a whole number"),
        ({"num_epochs": 0}, "Setting num_epochs: 0 must be greater than or equal to 1"),
        ({"num_workers": -1}, "Setting num_workers: -1 must be"),
        ({"seed": -1}, "Setting seed: -1 must be"),
        ({"observation_min_count": 0}, "Setting observation_min_count: 0 must be"),
        ({"root": 5}, "Setting root: 5 must be a path"),
        ({"net_kwargs": [1]}, "Setting net_kwargs: [1] must be a valid dictionary"),
        (
            {"epoch_args": "ful"},
            "Setting epoch_args: 'ful' must be none, combined, standard, full, or a table",
        ),
        ({"name": "../elsewhere"}, "Setting name: '../elsewhere' must be letters, digits"),
        ({"name": ""}, "Setting name: '' must be letters, digits"),
    ],
)
def test_an_impossible_value_is_one_line(settings, message):
    text = error_message(**settings)
    assert text.startswith(message)
    assert "\n" not in text


@pytest.mark.parametrize("name", EPOCH_ARGS)
def test_every_named_epoch_display_is_a_setting(name):
    assert RunConfig(epoch_args=name).epoch_args == name


def test_a_toml_file_is_read(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('source = "nih"\nroot = "Thorax-Röntgen"\nnet_kwargs = {layers = 34}\n', encoding="utf-8")
    assert settings_from_toml(path) == {
        "source": "nih",
        "root": "Thorax-Röntgen",
        "net_kwargs": {"layers": 34},
    }


def test_a_missing_toml_file_is_an_error(tmp_path):
    with pytest.raises(HilumError, match=r"none\.toml: this settings file does not exist"):
        settings_from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"num_epochs = \n", b"num_epochs: 3\n", b"\x89PNG\xff\xfe"])
def test_a_file_that_is_not_toml_is_an_error(tmp_path, content):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(HilumError, match=r"settings\.toml: this is not a TOML file: "):
        settings_from_toml(path)


def test_a_toml_syntax_error_has_its_line(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('source = "nih"\nnum_epochs = three\n')
    with pytest.raises(HilumError, match="line 2"):
        settings_from_toml(path)


def test_a_folder_is_not_a_toml_file(tmp_path):
    with pytest.raises(HilumError, match="this is not a TOML file"):
        settings_from_toml(tmp_path)


def test_a_split_file_excludes_settings_of_another_split():
    with pytest.raises(HilumError, match="number_images, val_fraction would have no effect"):
        RunConfig(split_file="split.parquet", number_images=50, val_fraction=0.3)
    assert RunConfig(split_file="split.parquet", val_fraction=0.2).split_file is not None


def test_an_unknown_policy_is_one_error_with_all_policies():
    with pytest.raises(HilumError, match="multiclass or chexpert-best") as raised:
        RunConfig(uncertain_policy="foo")
    assert "\n" not in str(raised.value)
    with pytest.raises(HilumError, match="eval_blank_policy: 'smooth-ones' must be zeros, ones or ignore"):
        RunConfig(eval_blank_policy="smooth-ones")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 0.5}, "momentum has no effect without optimizer sgd"),
        (
            {"plateau_patience": 5, "schedule": "cosine"},
            "plateau_patience has no effect without schedule plateau",
        ),
        (
            {"mlflow_uri": "sqlite:///x.db", "loggers": ["tensorboard"]},
            "mlflow_uri has no effect without loggers",
        ),
    ],
)
def test_a_setting_without_effect_is_an_error_for_a_new_run(settings, message):
    with pytest.raises(HilumError, match=message):
        check_effect(RunConfig(**settings))
    check_effect(RunConfig(optimizer="sgd", momentum=0.5, schedule="plateau", plateau_patience=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 2, "on_oom": "halve"}, "on_oom halve works on one device"),
        ({"loggers": "wandb"}, "Setting loggers: 'wandb' must be a list of tensorboard and mlflow"),
        ({"best_rule": 3}, "Setting best_rule: 3 must be scores in order of importance"),
    ],
)
def test_incompatible_settings_and_wrong_types_are_errors(settings, message):
    assert message in error_message(**settings)


def test_settings_are_read_from_toml_or_from_the_record_of_a_run(tmp_path):
    (tmp_path / "a.toml").write_text("num_epochs = 3\n")
    record = {"status": "finished", "settings": RunConfig(num_epochs=3, name="x").as_record()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert settings_from_file(tmp_path / "a.toml") == {"num_epochs": 3}
    assert RunConfig(**settings_from_file(tmp_path / "run.json")) == RunConfig(num_epochs=3, name="x")
    (tmp_path / "list.json").write_text("[1]")
    for name, message in (
        ("list.json", "has no settings"),
        ("none.json", "this settings file does not exist"),
    ):
        with pytest.raises(HilumError, match=message):
            settings_from_file(tmp_path / name)


def test_settings_are_grouped_and_read_flat():
    config = RunConfig(learning_rate=0.01, aug_fraction=0.5)
    assert config.training.learning_rate == config.learning_rate == 0.01
    assert config.augmentation.aug_fraction == 0.5
    assert config.given == {"learning_rate", "aug_fraction"}
    with pytest.raises(AttributeError, match="no attribute 'learning_rat'"):
        _ = config.learning_rat


def test_founding_names_are_accepted_in_settings_and_groups():
    config = RunConfig(aug_percent=0.5, translate_percent=0.1)
    assert (config.aug_fraction, config.aug_percent) == (0.5, 0.5)
    assert config.augmentation == AugmentationSettings(aug_percent=0.5, translate_fraction=0.1)
    assert "aug_percent" not in config.as_record()
    with pytest.raises(HilumError, match="aug_percent is another name of aug_fraction: give one"):
        RunConfig(aug_percent=0.5, aug_fraction=0.5)


def test_unknown_settings_of_a_group_are_errors():
    with pytest.raises(HilumError, match=r"There is no setting .learning_rat."):
        AugmentationSettings(learning_rat=1)
    with pytest.raises(HilumError, match="2 settings cannot be used"):
        AugmentationSettings(aug_fraction=2, shear_degrees=-1)
