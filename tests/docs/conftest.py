"""The documentation, as text and as a built site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

if str(ROOT) not in sys.path:  # for docs.generators
    sys.path.insert(0, str(ROOT))


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def fenced(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, text) of each fenced block in this language."""
    text = page.read_text(encoding="utf-8")
    blocks = re.finditer(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: block.start()].count("\n") + 1, block[1]) for block in blocks]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site, built like `make docs`: every warning is an error."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'hilum[docs]'")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return out
