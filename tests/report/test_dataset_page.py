"""The page of a data set is one file, shows every target and number, and escapes names."""

import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.config import SplitSettings
from hilum.data.split import make_split
from hilum.errors import HilumError
from hilum.metrics.label_statistics import metadata_leaks
from hilum.report.dataset_page import write_eda
from hilum.sources import open_catalog
from hilum.sources.chexpert import CleanMetaData

FIGURES = (
    "prevalence",
    "findings-per-image",
    "co-occurrence",
    "view-age-sex",
    "label-policy",
    "intrinsic-leaks",
)

#: Where the number of targets does not matter: drawing takes the time.
FEW = ("Edema", "Pleural_Effusion")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "p"
    return open_catalog("phantom", root, images=60, size=64).select_targets(
        ["Edema", "Atelectasis", "Pleural_Effusion"]
    )


@pytest.fixture(scope="module")
def page(phantom, tmp_path_factory):
    """The phantom's folder and its page as text."""
    out = tmp_path_factory.mktemp("eda")
    path = write_eda(phantom, out, observation_min_count=3, uncertain_policy="ones", examples=2)
    assert path == out / "eda.html"
    return out, path.read_text(encoding="utf-8")


def text_of(html: str) -> str:
    """The text of a page, without its markup."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_page_is_one_file_without_scripts(page):
    _, html = page
    assert html.startswith("<!doctype html>\n<html lang=")
    sources = re.findall(r'\b(?:src|srcset|data|action)="([^"]*)"', html)
    assert len(sources) > len(FIGURES)
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', html))
    assert not re.search(r"https?://|@import|url\(|<script|<link|<iframe|\son\w+=", html)
    assert not re.search(r"\{\{|\{%|%\}", html)


def test_each_link_within_the_page_has_its_target(page):
    _, html = page
    links = re.findall(r'href="#([^"]*)"', html)
    assert len(links) == 7
    assert all(f'id="{link}"' in html for link in links)


def test_the_figures_are_files_and_in_the_page(page):
    out, html = page
    assert sorted(path.stem for path in (out / "figures").iterdir()) == sorted(FIGURES)
    for name in FIGURES:
        data = (out / "figures" / f"{name}.png").read_bytes()
        assert base64.b64encode(data).decode() in html
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1] > 600


def test_every_target_is_in_every_table(page, phantom):
    _, html = page
    for target in phantom.targets:
        assert html.count(target.replace("_", " ")) >= 4
    text = text_of(html)
    assert f"{len(phantom)} images of {phantom.table['PatientID'].nunique()} patients, 3 targets" in text
    assert phantom.fingerprint in text
    assert "Research use only" in text


def test_target_vectors_are_counted_before_and_after_oversampling(page, phantom):
    text = text_of(page[1])
    counts = pd.DataFrame(phantom.labels()).value_counts()
    none = int(counts[(0.0,) * 3])
    after = int(counts.clip(lower=3).sum())
    share, share_after = 100 * none / len(phantom), 100 * none / after
    assert f"000 {none} {share:.4f} {none} {share_after:.4f}" in text
    assert f"{len(phantom)} images become {after} an epoch" in text


def test_the_effect_of_the_policy_is_counted(page, phantom):
    text = text_of(page[1])
    assert "Uncertain labels: ones . Labels not mentioned: zeros ." in text
    codes = phantom.codes["Edema"]
    positive, negative = int((codes == 1).sum()), int((codes == 0).sum())
    uncertain, blank = int((codes == -1).sum()), int(codes.isna().sum())
    before = f"{positive} {negative} {uncertain} {blank}"
    assert f"Edema {before} {positive + uncertain} {negative + blank} 0 0 0" in text


def test_the_examples_are_positive_images_and_the_same_each_time(page, phantom, tmp_path):
    _, html = page
    shown = re.findall(r'alt="ImageID (\d+), ([^"]+)" src="data:image/jpeg;base64,([^"]+)"', html)
    assert shown
    for image_id, target, data in shown:
        assert phantom.table.at[int(image_id), target.replace(" ", "_")] == 1
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (64, 64)
    for target in phantom.targets:
        positives = int((phantom.table[target] == 1).sum())
        assert sum(name == target.replace("_", " ") for _, name, _ in shown) == min(2, positives)
    path = write_eda(phantom, tmp_path, observation_min_count=3, uncertain_policy="ones", examples=2)
    again = path.read_text(encoding="utf-8")
    assert again == html


def test_the_strongest_leak_is_a_sentence(tmp_path, chexpert_tree):
    catalog = _leaking(CleanMetaData(chexpert_tree, cache=False).catalog().select_targets(FEW))
    text = text_of(write_eda(catalog, tmp_path, examples=0).read_text(encoding="utf-8"))
    row = (
        metadata_leaks(catalog, seed=0).query("feature == 'devices' and target == 'Pleural_Effusion'").iloc[0]
    )
    assert row["auc"] == 1
    assert "Support devices alone predict Pleural Effusion with a ROC AUC of 1.000 (1.000 to 1.000)" in text


def _leaking(catalog):
    """Twelve times the same images, of other patients, whose devices predict their effusions."""
    times = 12
    table = pd.concat([catalog.table] * times, ignore_index=True).rename_axis("ImageID")
    table["PatientID"] = np.arange(len(table))
    table["Image_Path"] = [f"{row}.jpg" for row in range(len(table))]
    table["Support Devices"] = table["Pleural_Effusion"]
    return replace(catalog, table=table, root=None, codes=None, fixed_split=None)


def test_without_images_the_page_states_the_reason(chexpert_tree, tmp_path):
    catalog = CleanMetaData(csv_path=chexpert_tree / "train.csv", cache=False).catalog().select_targets(FEW)
    text = text_of(write_eda(catalog, tmp_path / "none").read_text(encoding="utf-8"))
    assert (
        f"The images are not available: the catalog was read from {chexpert_tree / 'train.csv'} alone."
        in text
    )
    moved = replace(catalog, root=tmp_path / "empty")
    text = text_of(write_eda(moved, tmp_path / "moved").read_text(encoding="utf-8"))
    assert "The images are not available." in text
    assert "the image is missing" in text


def test_an_unreadable_image_is_named_and_the_others_are_shown(small_catalog, tmp_path):
    small_catalog = small_catalog.select_targets(FEW)
    positives = small_catalog.table.index[small_catalog.table["Edema"] == 1]
    broken = small_catalog.image_path(positives[0])
    broken.write_bytes(b"no image")
    html = write_eda(small_catalog, tmp_path, examples=100).read_text(encoding="utf-8")
    assert f"{broken}: the file is neither a PNG nor a JPEG" in text_of(html)
    assert html.count(', Edema" src=') == len(positives) - 1


def test_a_data_set_without_metadata_has_a_page(nih_tree, tmp_path):
    catalog = open_catalog("nih", nih_tree).select_targets(["Edema"])
    bare = catalog.table.assign(Age=np.nan, Sex_Male=np.nan, Sex_Unknown=np.nan, Orientation_PA=np.nan)
    html = write_eda(replace(catalog, table=bare), tmp_path).read_text(encoding="utf-8")
    text = text_of(html)
    assert "There is only one target." in text
    assert "records neither view nor age nor sex" in text
    assert "Not tested: view, devices, age, sex." in text
    assert "none uncertain or blank" in text
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == [
        "findings-per-image",
        "prevalence",
    ]


def test_the_split_is_described_and_only_its_training_part_oversampled(small_catalog, tmp_path):
    small_catalog = small_catalog.select_targets(FEW)
    split = make_split(
        small_catalog, SplitSettings(val_fraction=0.3, split_unit="image", official_split=False), seed=1
    )
    path = write_eda(small_catalog, tmp_path, split=split, observation_min_count=2)
    text = text_of(path.read_text(encoding="utf-8"))
    train = split.counts()["train"]
    assert f"By image: train {train['images']} images of {train['patients']} patients" in text
    assert "A patient is in two parts" in text
    assert f"{train['images']} images become" in text


def test_strict_leaks_raise_before_anything_is_written(small_catalog, tmp_path):
    split = make_split(
        small_catalog, SplitSettings(val_fraction=0.3, split_unit="image", official_split=False), seed=1
    )
    with pytest.raises(HilumError, match=r"leaks: .* pair\(s\) across its parts"):
        write_eda(small_catalog, tmp_path / "out", split=split, strict_leaks=True)
    assert not (tmp_path / "out").exists()


def test_strict_leaks_pass_where_there_are_none(phantom, tmp_path):
    seen = []
    path = write_eda(
        phantom.select_targets(FEW), tmp_path, strict_leaks=True, progress=lambda: seen.append(1)
    )
    text = text_of(path.read_text(encoding="utf-8"))
    assert "No patient is in two parts. No image has a copy or a near copy in another part." in text
    assert len(seen) == len(phantom)


def test_strict_leaks_need_the_images(chexpert_tree, tmp_path):
    catalog = CleanMetaData(csv_path=chexpert_tree / "train.csv", cache=False).catalog()
    with pytest.raises(HilumError, match="without its images"):
        write_eda(catalog, tmp_path, strict_leaks=True)


def test_a_policy_without_an_effect_is_refused(nih_tree, tmp_path):
    with pytest.raises(HilumError, match="has no effect on nih"):
        write_eda(open_catalog("nih", nih_tree), tmp_path, uncertain_policy="ones")
    assert not (tmp_path / "eda.html").exists()


def test_harmful_names_are_escaped(small_catalog, tmp_path):
    malice = "<script>alert('x')</script>"
    image = '"><img src=x onerror=alert(1)>'
    few = small_catalog.select_targets(FEW)
    table = few.table.rename(columns=dict(zip(FEW, (malice, image), strict=True)))
    harmful = replace(few, name=malice, table=table, targets=(malice, image), codes=None, root=None)
    html = write_eda(harmful, tmp_path).read_text(encoding="utf-8")
    assert malice not in html
    assert image not in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert all(source.startswith("data:") for source in re.findall(r'<img [^>]*src="([^"]*)"', html))
    assert html.count("<img ") == len(re.findall(r'src="data:image/png', html))
