import json
from pathlib import Path

import pandas as pd
import pytest


def test_a_catalog_is_shown_with_its_counts(hilum, chexpert_tree, small_catalog):
    result = hilum("catalog", "--source", "chexpert", "--root", chexpert_tree)
    assert result.code == 0
    assert "33 images of 16 patients" in result.out
    assert small_catalog.fingerprint in result.out
    for target in small_catalog.targets:
        (line,) = [line for line in result.out.splitlines() if line.startswith(f"{target} ")]
        positive = int(small_catalog.table[target].sum())
        assert line.split()[1:4] == [str(positive), str(33 - positive), "0"]


def test_a_catalog_is_filtered_checked_and_written(hilum, chexpert_tree, tmp_path):
    out = tmp_path / "table.csv"
    result = hilum(
        *("catalog", "--source", "chexpert", "--root", chexpert_tree),
        *("--source-kwargs", "{max_studies = 1}", "--check-images", "--out", out),
    )
    assert result.code == 0
    assert set(pd.read_csv(out)["StudyID"]) == {1}


def test_a_bad_image_is_found_when_asked_and_nothing_is_written(
    hilum, chexpert_tree, small_catalog, tmp_path
):
    bad = small_catalog.image_path(small_catalog.table.index[3])
    bad.write_bytes(bad.read_bytes()[:-40])
    arguments = ("catalog", "--source", "chexpert", "--root", chexpert_tree, "--out", tmp_path / "table.csv")
    result = hilum(*arguments, "--check-images")
    assert result.code == 2
    assert result.err.startswith(f"error: 1 image(s) cannot be used:\n  {bad}: the image is truncated")
    assert not (tmp_path / "table.csv").exists()
    assert hilum(*arguments).code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--source", "nhi"], "Unknown source 'nhi'. Did you mean 'nih'?"),
        (["--source", "nih"], "root is missing: give the folder of the nih data set (--root DIR)."),
        (["--source", "nih", "--root", "missing"], "missing: there is no such folder."),
        (["--source", "chexpert", "--root", ".", "--source-kwargs", "3"], "Setting source_kwargs: 3 must be"),
        (
            ["--source", "chexpert", "--root", ".", "--source-kwargs", "{max_study = 3}"],
            "source_kwargs: the source",
        ),
    ],
)
def test_a_catalog_that_cannot_be_read_is_an_error(hilum, arguments, text):
    result = hilum("catalog", *arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {text}")
    assert result.out == ""


def test_a_pack_is_made_at_the_size_of_the_flags(hilum, chexpert_tree, tmp_path):
    result = hilum(
        *("pack", "--source", "chexpert", "--root", chexpert_tree, "--out", tmp_path / "pack"),
        *("--image-width", 32, "--image-height", 16, "--workers", 1),
    )
    assert (result.code, result.err) == (0, "")
    assert result.out == f"33 images are in {tmp_path / 'pack'}; train with --pack {tmp_path / 'pack'}\n"
    record = json.loads((tmp_path / "pack" / "pack.json").read_text())
    assert (record["width"], record["height"]) == (32, 16)
    result = hilum("pack", "--image-width", 3, "--out", tmp_path / "other")
    assert (result.code, "Setting image_width: 3" in result.err) == (2, True)


def test_images_are_copied_into_folders_once(hilum, chexpert_tree, tmp_path):
    arguments = ("hierarchy", "--source", "chexpert", "--root", chexpert_tree, "--out", tmp_path / "copy")
    assert hilum(*arguments).out.startswith("33 images copied, 0 already there, ")
    assert hilum(*arguments, "--link").out.startswith("0 images linked, 33 already there, ")


def test_a_data_set_gets_its_page(hilum, chexpert_tree, tmp_path):
    result = hilum(
        *("eda", "--source", "chexpert", "--root", chexpert_tree, "--out", tmp_path / "eda"),
        *("--target-columns", "Edema,Pneumonia"),
    )
    assert result.code == 0, result.err
    page = Path(result.out.removeprefix("The page is ").strip()).read_text(encoding="utf-8")
    assert "Pneumonia" in page
    assert "Cardiomegaly" not in page


def test_shards_need_a_pack(hilum, tmp_path):
    result = hilum("shards", tmp_path, tmp_path / "store")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {tmp_path}")
