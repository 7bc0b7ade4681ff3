"""The audit of a run finds a planted shortcut, and none where none was planted."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from hilum.config import SplitSettings
from hilum.data.split import make_split
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.phantom import write_phantom
from hilum.report.audit import NOT_RECORDED, audit_run, groups_of, show_audit
from hilum.run_folder import RunFolder
from hilum.sources import open_catalog
from hilum.sources.images import read_gray

TARGETS = ("Pleural_Effusion", "Cardiomegaly")

pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")


def run_on_phantom(root, leak: str | None) -> RunFolder:
    """A run folder of a logistic regression on the pixels of drawn radiographs."""
    write_phantom(root / "data", images=700, size=64, seed=0, leak=leak)
    catalog = open_catalog("phantom", root / "data").select_targets(TARGETS)
    split = make_split(catalog, SplitSettings(val_fraction=0.5), seed=0)
    pixels = np.stack(
        [
            cv2.resize(read_gray(path), (24, 24), interpolation=cv2.INTER_AREA).ravel()
            for path in catalog.image_paths()
        ]
    )
    pixels = (pixels / 255 - 0.5).astype(np.float32)
    rows = {part: catalog.table.index.get_indexer(split.image_ids(part)) for part in ("train", "val")}
    labels = catalog.labels()
    logits = np.column_stack(
        [
            LogisticRegression(C=0.02, max_iter=300)
            .fit(pixels[rows["train"]], labels[rows["train"], column])
            .decision_function(pixels)
            for column in range(len(TARGETS))
        ]
    )
    tables = {part: catalog.table.iloc[its_rows][list(TARGETS)] for part, its_rows in rows.items()}
    metrics = Metrics(TARGETS, tables["train"], tables["val"])
    for part, its_rows in rows.items():
        metrics.append_epoch_batch_data(
            catalog.table.index[its_rows].to_numpy(), logits[its_rows], is_validation=part == "val"
        )
        metrics.close_epoch(1, is_validation=part == "val")
    folder = RunFolder.create(
        root / "runs",
        "run",
        "run",
        {
            "settings": {},
            "targets": list(TARGETS),
            "thresholds": dict.fromkeys(TARGETS, 0.5),
            "catalog": {"name": "phantom"},
            "best_epoch": 1,
        },
    )
    folder.write_split(split.table)
    folder.write_images(catalog.add_features(split.table))
    folder.write_epoch(1, metrics.predictions(1), metrics.scores, metrics.combined)
    return folder


@pytest.fixture(scope="module")
def leaky(tmp_path_factory) -> RunFolder:
    return run_on_phantom(tmp_path_factory.mktemp("leaky"), "effusion")


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> RunFolder:
    return run_on_phantom(tmp_path_factory.mktemp("clean"), None)


def test_a_planted_shortcut_is_found_and_no_other(leaky):
    audit = audit_run(leaky)
    named = audit.within[audit.within["possible_shortcut"]]
    assert list(zip(named["column"], named["target"], strict=True)) == [
        ("Support Devices", "Pleural_Effusion")
    ]
    (sentence,) = audit.conclusions
    assert sentence.startswith("Pleural Effusion: the model may be using Support Devices")


def test_without_a_planted_shortcut_none_is_found(clean):
    audit = audit_run(clean)
    assert not audit.within["possible_shortcut"].any()
    assert audit.conclusions[0].startswith("No sign of a shortcut by view, sex, age, Support Devices")


def test_the_metadata_alone_predict_the_leaked_finding_only(leaky, clean):
    leaked, plain = (
        audit_run(folder, columns=["view"]).metadata.set_index("target") for folder in (leaky, clean)
    )
    assert leaked.at["Pleural_Effusion", "auc"] > 0.9
    assert plain.at["Pleural_Effusion", "auc"] < 0.75


def test_the_groups_have_all_images(clean):
    audit = audit_run(clean)
    one_target = audit.groups[audit.groups["target"] == "Cardiomegaly"]
    images = clean.images()
    val = images[images["part"] == "val"]
    assert (one_target.groupby("column")["images"].sum() == len(val)).all()
    by_view = one_target[one_target["column"] == "view"].set_index("group")["images"].to_dict()
    assert by_view == {
        "AP": int((val["Orientation_PA"] == 0).sum()),
        "PA": int((val["Orientation_PA"] == 1).sum()),
    }


def test_the_audit_is_printed_and_is_json(leaky, capsys):
    audit = audit_run(leaky, columns=["devices", "sex"])
    record = json.loads(audit.as_json())
    assert record["conclusions"] == list(audit.conclusions)
    assert {row["column"] for row in record["groups"]} == {"Support Devices", "sex"}
    assert len(record["within"]) == 4
    show_audit(audit)
    printed = capsys.readouterr().out
    assert audit.conclusions[0] in printed
    assert "few" in printed


def some_images(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    plain = {
        "PatientID": range(count),
        "StudyID": 1,
        "part": "val",
        "Age": 50.0,
        "Sex_Male": 1.0,
        "Sex_Unknown": 0.0,
        "Orientation_PA": np.nan,
        "Support Devices": np.nan,
        "Image_Path": [f"{number}.png" for number in range(count)],
    }
    return pd.DataFrame(plain | columns)


def test_groups_are_views_sexes_age_bands_devices_and_other_columns():
    groups, skipped = groups_of(
        some_images(
            Orientation_PA=[1, 0, np.nan, 1],
            Sex_Male=[1, 0, 1, 0],
            Sex_Unknown=[0, 0, 1, 0],
            Age=[19, 20, np.nan, 85],
            Scanner=["x", "y", None, "x"],
        )
    )
    assert groups["view"].tolist() == ["PA", "AP", NOT_RECORDED, "PA"]
    assert groups["sex"].tolist() == ["male", "female", NOT_RECORDED, "female"]
    assert groups["age"].tolist() == ["0–19", "20–39", NOT_RECORDED, "80+"]
    assert groups["Scanner"].tolist() == ["x", "y", NOT_RECORDED, "x"]
    assert skipped == {"Support Devices": "is not recorded for all images"}


def test_many_numbers_are_divided_into_quarters_and_many_texts_left_out():
    groups, skipped = groups_of(
        some_images(
            Dose=[float(number // 2) for number in range(40)],
            Remark=[f"note {number}" for number in range(40)],
        )
    )
    assert groups["Dose"].value_counts().tolist() == [10, 10, 10, 10]
    assert skipped["Remark"] == "has a value of its own for nearly every image"


def test_a_column_that_does_not_exist_or_cannot_be_grouped_raises(leaky):
    with pytest.raises(HilumError, match=r"there is no column 'veiw'\. Did you mean 'view'"):
        audit_run(leaky, columns=["veiw"])
    with pytest.raises(
        HilumError, match="Support Devices cannot be audited: it is not recorded for all images"
    ):
        groups_of(some_images(Sex_Male=[1, 0]), ["devices"])


def test_a_run_of_an_earlier_version_raises(clean, tmp_path):
    shutil.copytree(clean.path, tmp_path / "old")
    (tmp_path / "old" / "images.parquet").unlink()
    with pytest.raises(
        HilumError, match=r"images\.parquet is missing: the run was made by an earlier version"
    ):
        audit_run(RunFolder(tmp_path / "old"))
