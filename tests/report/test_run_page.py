"""The run's page shows every score and setting, is one file, and reads the predictions once."""

import base64
import re
import sys
from html.parser import HTMLParser

import cv2
import pandas as pd
import pytest

from hilum.config import setting_fields
from hilum.errors import HilumError
from hilum.metrics.intervals import score_replicates
from hilum.metrics.predictions import Predictions
from hilum.report.run_page import FIGURE_TITLES, write_figures, write_report


def test_every_figure_is_written_once_and_can_be_decoded(write_run, capsys):
    folder, metrics = write_run()
    written = write_figures(folder, metrics)
    assert sorted(written) == sorted(folder.figures.iterdir())
    for path in written:
        pixels = cv2.imread(str(path))
        assert pixels is not None
        assert pixels.std() > 5
    assert capsys.readouterr().out == ""


def test_the_report_has_a_title_for_each_figure(write_run):
    folder, metrics = write_run()
    assert {path.stem for path in write_figures(folder, metrics)} == set(FIGURE_TITLES)


VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page, and refuses tags that are not closed in order."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> in line {self.getpos()[0]}"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.words))


@pytest.fixture
def report(write_run):
    """Writes a run and its report; gives the HTML and the run."""

    def write(**changes):
        folder, metrics = write_run(**changes)
        folder.figures.mkdir()
        (folder.figures / "roc.png").write_bytes(b"\x89PNG of curves")
        path = write_report(folder)
        assert path == folder.path / "report.html"
        return path.read_text(encoding="utf-8"), folder, metrics

    return write


def test_the_page_is_valid_and_its_tags_are_balanced(report):
    html, _, _ = report()
    page = Page(html)
    assert html.startswith("<!doctype html>\n<html lang=")
    assert [page.tags.count(tag) for tag in ("html", "head", "title", "body", "main", "h1")] == [1] * 6
    assert ("meta", "charset", "utf-8") in page.attributes
    assert ("meta", "name", "viewport") in page.attributes
    assert "{{" not in html
    assert "{%" not in html


def test_the_page_is_one_file_without_scripts(report):
    html, _, _ = report()
    page = Page(html)
    links = [
        value for _, name, value in page.attributes if name in {"src", "href", "srcset", "action", "data"}
    ]
    assert links
    assert all(link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) for link in links)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"@import|url\(|https?://", html)


def test_the_figures_are_in_the_page_byte_for_byte(report):
    html, folder, _ = report()
    page = Page(html)
    (source,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert base64.b64decode(source.partition(",")[2]) == (folder.figures / "roc.png").read_bytes()
    assert [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")] == ["ROC curves"]


def test_every_target_score_and_setting_is_on_the_page(report):
    html, folder, metrics = report()
    text = Page(html).text
    assert "Validation, by target, epoch 2" in text
    for part, heading in (
        ("val", "Validation, by target, last epoch (2), at the thresholds of the settings"),
        ("train", "Training, by target, last epoch (2), at the thresholds of the settings"),
    ):
        assert heading in text
        scores = metrics.scores[(metrics.scores["epoch"] == 2) & (metrics.scores["part"] == part)]
        for row in scores.to_dict("records"):
            assert row["target"] in text
            for name in ("recall", "precision", "f1", "roc_auc", "avg_precision", "threshold"):
                assert (f"{row[name]:.3f}" if row[name] == row[name] else "n/a") in text
    for row in metrics.combined.to_dict("records"):
        line = [
            f"{row[name]:.3f}" for name in ("loss", "accuracy", "hamming_loss", "recall", "precision", "f1")
        ]
        assert f"{row['epoch']} {row['part']} {' '.join(line)}" in text
    for name in setting_fields():
        assert name in text
    assert "layers: 34" in text
    assert folder.record["catalog"]["fingerprint"] in text
    assert folder.record["git_commit"] in text
    assert "6 an epoch after oversampling" in text
    assert "Not balanced: Age is 25.0% of train, 50.0% of val." in text
    assert "Research use only" in text


def rows_of(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    return [
        [
            re.sub(r"<[^>]+>", "", cell.replace("<small>", " "))
            for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row, flags=re.DOTALL)
        ]
        for row in rows
    ]


def test_the_scores_are_under_their_headings_and_undefined_ones_are_na(report):
    html, _, _ = report()
    rows = rows_of(html)
    validation = next(position for position, row in enumerate(rows) if row and row[0] == "target")
    headings = [" ".join(heading.split()) for heading in rows[validation]]
    edema, mass = (dict(zip(headings, rows[validation + step], strict=True)) for step in (1, 2))
    assert {name: edema[name] for name in ("target", "recall", "ROC AUC", "precision", "positives")} == {
        "target": "Edema",
        "recall": "0.500 0.05–0.95",
        "ROC AUC": "0.750 0.00–1.00",
        "precision": "1.000",  # of one patient alone, which has no interval
        "positives": "2 of 4",
    }
    assert [mass[name] for name in ("target", "recall", "ROC AUC", "positives")] == [
        "Mass",
        "n/a",
        "n/a",
        "0 of 4",
    ]


def test_the_cards_show_over_how_many_targets_each_mean_is(report):
    text = Page(report()[0]).text
    for card in ("Recall 0.500", "ROC AUC 0.750", "Precision 1.000"):
        assert re.search(
            rf"{card} (\d\.\d{{3}}–\d\.\d{{3}}, )?validation, epoch 2, mean of 1 of 2 targets", text
        )


def test_changed_settings_are_marked(report):
    html, _, _ = report()
    changed = re.findall(r'<div class="changed"><span>(\w+)</span>', html)
    assert sorted(changed) == ["learning_rate", "net_kwargs", "num_epochs"]


def test_harmful_names_are_escaped(report, malice):
    html, _, _ = report(
        targets=(malice, '"><img src=x onerror=alert(1)>'),
        catalog={"name": malice, "fingerprint": malice, "images": 1, "origin": malice},
        git_commit=malice,
    )
    page = Page(html)
    assert malice not in html
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert page.text.count(malice) >= 5


def test_a_harmful_run_name_is_escaped_in_title_and_heading(write_run, malice):
    folder, _ = write_run()
    folder.update(name=malice)
    html = write_report(folder).read_text(encoding="utf-8")
    assert malice not in html
    assert Page(html).text.startswith(f"{malice} – Hilum {malice}")


def test_a_run_without_an_epoch_has_no_report(write_run):
    folder, _ = write_run(epochs=0)
    with pytest.raises(HilumError, match="A run has scores once its first epoch has ended"):
        write_report(folder)
    assert not (folder.path / "report.html").exists()


def test_the_old_report_stays_if_the_new_one_fails(report):
    html, folder, _ = report()
    del folder.record["catalog"]
    with pytest.raises(Exception, match="catalog"):
        write_report(folder)
    assert (folder.path / "report.html").read_text(encoding="utf-8") == html
    assert not list(folder.path.glob(".report*"))


def frozen(threshold: float, *notes: str) -> dict:
    """An operating point as run.json has it."""
    return {
        "threshold": threshold,
        "policy": "recall>=0.9",
        "recall": 1.0,
        "recall_low": 0.3,
        "recall_high": 1.0,
        "precision": None,
        "specificity": 0.5,
        "predicted_positive_rate": 0.75,
        "positives": 2,
        "negatives": 2,
        "notes": list(notes),
    }


def test_scores_and_counts_are_those_at_the_frozen_operating_points(write_run):
    folder, _ = write_run()
    folder.update(operating_points={"Edema": frozen(0.1, "calls nearly all of it"), "Mass": frozen(0.25)})
    html = write_report(folder).read_text(encoding="utf-8")
    rows = rows_of(html)
    scores, counts = (
        next(row for row in rows[position:] if row[0] == "Edema")
        for position in (
            next(place for place, row in enumerate(rows) if row[:2] == ["target", second])
            for second in ("recall", "threshold")
        )
    )
    # Given 0.95 and 0.12 to the positives, 0.27 and 0.05 to the negatives.
    assert scores[1].startswith("1.000 ")
    assert scores[3].startswith("0.667 ")
    assert scores[4].startswith("0.500 ")
    assert scores[7] == "75%"
    assert counts == ["Edema", "0.100", "2", "0", "1", "1", "recall&gt;=0.9"]
    assert "Edema: calls nearly all of it." in Page(html).text


def test_the_best_epoch_is_shown_not_the_last(write_run):
    folder, _ = write_run()
    folder.update(best_epoch=1)
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "Validation, by target, epoch 1" in text
    assert "Best epoch 1 of 2" in text


def test_the_missed_images_are_listed_and_unreadable_ones_counted(report):
    html, _, _ = report()
    text = Page(html).text
    assert "Missed (false negatives), lowest probability first" in text
    # Edema's second positive image has probability sigmoid(-2).
    assert "Edema 0.119, threshold 0.500 ImageID 6, patient 11" in text
    assert "Mass 0.881, threshold 0.250 ImageID 7, patient 10" in text
    assert "2 of these images cannot be read" in text
    assert html.count("image not available") == 2


def test_studies_of_several_images_are_scored_as_one(report):
    text = Page(report()[0]).text
    assert "3 studies of 4 images" in text


def test_a_run_of_an_earlier_version_has_a_page_and_no_audit(write_run):
    folder, _ = write_run(with_images=False)
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "n/a: an earlier version made this run and did not record views, ages or studies." in text
    assert "By study" not in text
    assert "Edema 0.119, threshold 0.500 ImageID 6, patient 11" in text


def test_the_calibration_is_shown_before_and_after_the_runs_own(write_run):
    folder, _ = write_run()
    fits = {"Edema": {"slope": 1.0, "intercept": 0.0}, "Mass": {"slope": 2.0, "intercept": -1.0}}
    folder.update(calibration={"method": "platt", "targets": fits, "notes": {"Edema": "left as it is: why"}})
    html = write_report(folder).read_text(encoding="utf-8")
    rows = rows_of(html)
    heading = next(row for row in rows if len(row) > 1 and row[1] == "calibration error")
    assert heading.count("after") == 2
    edema, mass = (
        next(row for row in rows[rows.index(heading) :] if row[0] == name) for name in ("Edema", "Mass")
    )
    assert edema[1] == edema[2]
    assert edema[3] == edema[4]
    assert mass[3] != mass[4]
    assert "Edema: left as it is: why." in Page(html).text


def test_the_page_is_written_to_the_path_given(write_run, tmp_path):
    folder, _ = write_run()
    assert write_report(folder, tmp_path / "elsewhere.html") == tmp_path / "elsewhere.html"
    assert (tmp_path / "elsewhere.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not (folder.path / "report.html").exists()


def test_the_predictions_are_read_once_and_bootstrapped_once(write_run, monkeypatch):
    folder, _ = write_run()
    read, bootstrapped = [], []
    read_parquet, bootstrap = pd.read_parquet, score_replicates

    def counting_read(path, *arguments, **options):
        read.append(str(path))
        return read_parquet(path, *arguments, **options)

    def counting_bootstrap(predictions, **options):
        bootstrapped.append((predictions.y_true.tobytes(), predictions.y_score.tobytes()))
        return bootstrap(predictions, **options)

    monkeypatch.setattr(pd, "read_parquet", counting_read)
    for module in list(sys.modules.values()):
        if getattr(module, "score_replicates", None) is bootstrap:
            monkeypatch.setattr(module, "score_replicates", counting_bootstrap)
    write_report(folder)
    predictions_files = [path for path in read if "/predictions/" in path]
    assert predictions_files == [str(folder.path / "predictions" / "epoch-0002.parquet")]
    validation = Predictions.from_run(folder)
    assert bootstrapped.count((validation.y_true.tobytes(), validation.y_score.tobytes())) == 1
    # The studies, and each group of the audit, are other rows: each of them is bootstrapped once, too.
    assert len(set(bootstrapped)) == len(bootstrapped) > 1
