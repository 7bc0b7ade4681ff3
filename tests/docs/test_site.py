"""Tests of the built site (complete, nothing from other hosts) and of the links of all pages."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.conftest import DOCS, ROOT, pages

#: Hosts of external links, which are checked manually, because tests must not use the network.
KNOWN_HOSTS = {
    "jupytext.readthedocs.io",
    "nihcc.app.box.com",
    "stanfordaimi.azurewebsites.net",
}


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in {"script", "img", "iframe", "source"} and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") not in {"canonical", "prev", "next"} and given.get("href"):
            self.loaded.append(given["href"])


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


@pytest.mark.slow
def test_every_page_is_built_and_loads_nothing_from_other_hosts(site):
    built = sorted(site.rglob("*.html"))
    assert len(built) > 25
    for page in built:
        parser = _References()
        parser.feed(page.read_text(encoding="utf-8"))
        external = [url for url in parser.loaded if re.match(r"(https?:)?//", url)]
        assert not external, (page, external)


@pytest.mark.slow
def test_generated_pages_and_the_api_exist(site):
    settings = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    assert 'id="learning_rate"' in settings
    assert "hilum train" in (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "A training run with the same defaults" in (site / "reference" / "api-training.html").read_text()
    assert not (site / "generators").exists()


@pytest.mark.slow
def test_the_diagram_is_on_its_pages(site):
    for name in ("index.html", "explanations/data-flow.html"):
        assert "images/data-flow.svg" in (site / name).read_text(encoding="utf-8")
    drawing = (DOCS / "images" / "data-flow.svg").read_text(encoding="utf-8")
    assert "<title" in drawing
    assert "<desc" in drawing


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_a_target(page):
    generated = {DOCS / "results.md", DOCS / "reference" / "commands.md", DOCS / "reference" / "settings.md"}
    for link in links(page):
        if re.match(r"https?://", link):
            assert link.split("/")[2] in KNOWN_HOSTS, link
            continue
        path, _, _ = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target in generated or target.exists(), link


def test_the_readme_excludes_the_chexpert_competition():
    assert "It is not intended for the CheXpert competition." in " ".join(
        (ROOT / "README.md").read_text(encoding="utf-8").split()
    )


def test_every_page_about_inference_has_research_use_only():
    for page in (ROOT / "README.md", DOCS / "index.md", DOCS / "how-to" / "serve.md"):
        assert "Research use only" in page.read_text(encoding="utf-8"), page
