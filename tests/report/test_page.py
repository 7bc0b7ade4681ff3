"""The report is one valid page that needs nothing beside it and believes no name that it is given."""

import base64
import re
from html.parser import HTMLParser

import pytest

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.report.page import write_report

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


def test_the_page_needs_nothing_beside_it_and_runs_nothing(report):
    html, _, _ = report()
    page = Page(html)
    links = [
        value for _, name, value in page.attributes if name in {"src", "href", "srcset", "action", "data"}
    ]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
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
    for part, heading in (
        ("val", "Validation, by target, epoch 2"),
        ("train", "Training, by target, epoch 2"),
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
    for name in RunConfig.model_fields:
        assert name in text
    assert "layers: 34" in text
    assert folder.record["catalog"]["fingerprint"] in text
    assert folder.record["git_commit"] in text
    assert "6 an epoch after oversampling" in text
    assert "Not balanced: Age is 25.0 % of train, 50.0 % of val." in text
    assert "Research use only" in text


def rows_of(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row, flags=re.DOTALL)]
        for row in rows
    ]


def test_the_scores_stand_under_their_headings_and_undefined_ones_are_na(report):
    html, _, _ = report()
    rows = rows_of(html)
    validation = next(position for position, row in enumerate(rows) if row and row[0] == "target")
    headings = [" ".join(heading.split()) for heading in rows[validation]]
    edema, mass = (dict(zip(headings, rows[validation + step], strict=True)) for step in (1, 2))
    assert {name: edema[name] for name in ("target", "recall", "ROC AUC", "precision", "positives")} == {
        "target": "Edema",
        "recall": "0.500",
        "ROC AUC": "0.750",
        "precision": "1.000",
        "positives": "2",
    }
    assert [mass[name] for name in ("target", "recall", "ROC AUC", "positives")] == [
        "Mass",
        "n/a",
        "n/a",
        "0",
    ]


def test_the_cards_say_of_how_many_targets_each_mean_is(report):
    text = Page(report()[0]).text
    assert "Recall 0.500 validation, epoch 2, mean of 1 of 2 targets" in text
    assert "ROC AUC 0.750 validation, epoch 2, mean of 1 of 2 targets" in text
    assert "Precision 1.000 validation, epoch 2, mean of 1 of 2 targets" in text


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


def test_the_former_report_stays_whole_if_the_new_one_cannot_be_made(report):
    html, folder, _ = report()
    del folder.record["catalog"]
    with pytest.raises(Exception, match="catalog"):
        write_report(folder)
    assert (folder.path / "report.html").read_text(encoding="utf-8") == html
    assert not list(folder.path.glob(".report*"))
