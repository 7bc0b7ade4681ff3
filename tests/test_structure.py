"""The shape of the package: its size, the order of its imports, its tests, its words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hilum"
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_FILES = 140
MOST_LINES = 27_000
LONGEST_FILE = 500
LONGEST_FUNCTION = 60

#: Words of no field and no plain English, and what to write instead.
BANNED = {
    r"films?": "image, radiograph",
    r"anew": "again",
    r"beside": "next to, with, besides",
    r"so many": "how many, a number",
    r"(is|are|was|were|be|been) told": "is reported, gets",
    r"(take|takes|took|taken|taking) up": "resume, restore, load",
    r"(come|comes|came|coming) to": "results in, reaches",
    r"(go|goes|went|going|gone) on": "continues",
    r"of which there are": "give the number",
    r"gravest\w*": "worst, most severe",
    r"mended\w*": "repaired, fixed",
    r"judged[_ ]by": "scored with",
    r"\w*keeper": "writer, manager",
    r"\w*sayer": "printer",
    r"this is no|is no (?!such)[a-z]+ file|it is no": "is not a",
    r"the former|whatever lies|lies beside": "name the thing",
}


def _functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_the_package_stays_small():
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    functions = [
        (length, f"{path.relative_to(ROOT)}:{name}")
        for path in MODULES
        for name, length in _functions(ast.parse(path.read_text("utf-8")))
    ]
    file, function = max(lines, key=lines.__getitem__), max(functions)
    print(f"files {len(lines)}, lines {sum(lines.values()):,}")
    print(f"longest file {file} ({lines[file]}), longest function {function[1]} ({function[0]})")
    assert len(lines) <= MOST_FILES
    assert sum(lines.values()) <= MOST_LINES
    assert [name for name, count in lines.items() if count > LONGEST_FILE] == []
    assert [name for count, name in functions if count > LONGEST_FUNCTION] == []


def _stated_order() -> list[set[str]]:
    """The import order of CONTRIBUTING.md, lowest first; parts on one line do not import each other's uppers."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    block = re.search(r"Import order, lowest first.*?```text\n(.*?)```", text, re.DOTALL)
    assert block, "CONTRIBUTING.md states no import order"
    return [set(line.split("#")[0].split()) for line in block[1].splitlines() if line.split("#")[0].strip()]


def _part(module: str) -> str:
    """The part that a dotted name belongs to: its package in hilum/, or its top-level module."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "hilum"


def test_no_import_runs_against_the_stated_order():
    level = {part: number for number, parts in enumerate(_stated_order()) for part in parts}
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert parts == set(level)
    upward = []
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue  # the names at the top of the package, each imported when it is used
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hilum":
                names = (
                    [node.module] if node.module != "hilum" else [f"hilum.{name.name}" for name in node.names]
                )
            elif isinstance(node, ast.Import):
                names = [name.name for name in node.names if name.name.split(".")[0] == "hilum"]
            upward += [
                f"{path.relative_to(ROOT)} imports {name}"
                for name in names
                if _part(name) in level and level[_part(name)] > level[own]
            ]
    assert upward == []


def test_every_module_has_its_test_file():
    missing = []
    for path in MODULES:
        if path.name in ("__init__.py", "__main__.py"):
            continue
        place = path.relative_to(PACKAGE)
        test = ROOT / "tests" / place.parent / f"test_{place.stem.lstrip('_')}.py"
        if not test.is_file():
            missing.append(str(place))
    assert missing == []


def test_every_test_file_has_its_module():
    """`test_run.py`, or `test_run_resume.py` for a topic of `run.py`; a folder counts as a module."""
    extra = []
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        place = test.relative_to(ROOT / "tests")
        if place.parts[0] in ("benchmarks", "docs", "notebooks") or len(place.parts) == 1:
            continue
        folder = PACKAGE / place.parent
        modules = {
            path.stem.lstrip("_") for path in [*folder.iterdir(), folder] if path.suffix in (".py", "")
        }
        stem = place.stem.removeprefix("test_")
        if not any(stem == module or stem.startswith(f"{module}_") for module in modules):
            extra.append(str(place))
    assert extra == []


def _texts() -> Iterator[Path]:
    """What users and contributors read."""
    yield from MODULES
    for pattern in ("hilum/**/*.jinja", "hilum/**/*.js", "hilum/**/*.html", "docs/**/*.md", "docs/**/*.py"):
        yield from sorted(ROOT.glob(pattern))
    for pattern in ("*.md", "recipes/*", "notebooks/**/*.py", "benchmarks/*.py", "tests/**/*.py"):
        yield from (path for path in sorted(ROOT.glob(pattern)) if path.name != "CHANGELOG.md")


@pytest.mark.parametrize("pattern", BANNED)
def test_words_are_plain(pattern):
    found = []
    expression = re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    for path in _texts():
        if path == Path(__file__) or path.name in ("glossary.md", "founding-document.md", "names.md"):
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if match := expression.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]!r}")
    shown = "\n".join(found[:40])
    assert not found, f"{len(found)} lines; write: {BANNED[pattern]}\n{shown}"
