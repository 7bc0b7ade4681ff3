"""The page of measured results, generated from the JSON files of the benchmarks."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

_INTRODUCTION = """# Results

This page is generated from the JSON files in `benchmarks/results/`. Speed is a ratio to a named peer in the same
process on the same machine, with the smallest and the largest value of the runs; a ratio transfers to another machine
better than seconds.

"""

_SCORES = """## {title}

{settings}. {seeds} seeds give as many models and splits by patient.

| finding | positives, per seed | ROC AUC | average precision | recall | precision |
| --- | --- | --- | --- | --- | --- |
{rows}

Each cell is the mean over the seeds, with the spread over seeds (standard deviation) after ±; in brackets is the 95 %
interval over patients (bootstrap of whole patients), the mean of the seeds' limits. Recall and precision are at the
operating points that each run froze, on the validation images they were chosen on, so they are slightly too high. A
cell with a number of seeds has only these; the others had no positive image. {remark}

```console
{command}
```

"""

#: Title and last remark of the scores, by data.
_DATA = {
    "nih": (
        "Radiographs: a sample of NIH ChestX-ray14",
        "The sample, 866 frontal radiographs of 594 patients at 256 x 256, is what remains of a selection of 500 "
        "images with pneumonia and 500 without a finding: its prevalences, and so the precisions, are not those of the "
        "data set (`benchmarks/nih-sample.txt` lists the files). The number of epochs was chosen on two other splits "
        "of the same images. So few images are far too few for a model; the widths of the intervals show it.",
    ),
    "phantom": (
        "Drawings: the phantom",
        "Each seed draws its own patients. Drawings are easier than radiographs: the scores "
        "show that the pipeline works, not how good a model is.",
    ),
}

_CHEXPERT = """## CheXpert

The images may not be redistributed, so no figures or weights of CheXpert are published here. With the images, these
commands train the founding document's two runs, and one with the best settings that we know:

```console
hilum train recipes/resnet34-chexpert-2020.toml --root path/to/CheXpert-v1.0-small
hilum train recipes/densenet-chexpert-2020.toml --root path/to/CheXpert-v1.0-small
hilum train recipes/chexpert-strong.toml --root path/to/CheXpert-v1.0-small
```

"""


def results_page() -> str:
    """Markdown."""
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    scores = {record["data"]: record for record in records.values() if record["benchmark"] == "scores"}
    parts = [_INTRODUCTION]
    parts += [_scores(scores[data]) for data in _DATA if data in scores]
    parts.append(_CHEXPERT)
    parts.append("## Benchmarks\n")
    parts += [
        _benchmark(path.stem, record) for path, record in records.items() if record["benchmark"] != "scores"
    ]
    return "\n".join(parts)


def measured_ratios(
    record: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, float]]]:
    """Every {median, min, max, runs} in a result, with the keys that lead to it."""
    if not isinstance(record, dict):
        return
    if {"median", "min", "max"} <= record.keys():
        yield path, record
        return
    for name, inner in record.items():
        yield from measured_ratios(inner, (*path, str(name)))


def _scores(record: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {row['target'].replace('_', ' ')} | {_counts(row['positives'])} | "
        + " | ".join(
            _cell(row[score], record["seeds"])
            for score in ("roc_auc", "avg_precision", "recall", "precision")
        )
        + " |"
        for row in record["rows"]
    )
    title, remark = _DATA[record["data"]]
    return _SCORES.format(
        title=title,
        rows=rows,
        seeds=record["seeds"],
        settings=record["settings_summary"],
        remark=remark,
        command=record["command"],
    )


def _counts(positives: list[int]) -> str:
    low, high = min(positives), max(positives)
    return str(low) if low == high else f"{low} – {high}"


def _cell(score: dict[str, float | None], seeds: int) -> str:
    if score["mean"] is None:
        return "n/a"
    # Each of the lines holds together, however narrow the column is.
    spread = "" if score["sd"] is None else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{score['sd']:.2f}"
    interval = (
        "" if score["low"] is None else f"<br>({score['low']:.2f}\N{NON-BREAKING HYPHEN}{score['high']:.2f})"
    )
    fewer = f"<br>{score['seeds']}\N{NO-BREAK SPACE}seeds" if score["seeds"] < seeds else ""
    return f"{score['mean']:.2f}{spread}{interval}{fewer}"


def _benchmark(stem: str, record: dict[str, Any]) -> str:
    name = record["benchmark"]
    script = ROOT / "benchmarks" / f"{name}.py"
    lines = [f"### {stem.replace('-', ' ').replace('_', ' ')}", "", _first_paragraph(script), ""]
    conditions = [f"{_words(key)} {record[key]}" for key in _CONDITIONS if key in record]
    if conditions:
        lines += [f"Measured with: {', '.join(conditions)}.", ""]
    if name in _SPECIAL:
        lines += [*_SPECIAL[name](record), ""]
    ratios = list(measured_ratios(record))
    if ratios:
        lines += ["| measure | median | smallest – largest | runs |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {' · '.join(_words(key) for key in keys)} | {_number(r['median'])} | "
            f"{_number(r['min'])} – {_number(r['max'])} | {r.get('runs', '')} |"
            for keys, r in ratios
        ]
        lines.append("")
    lines += ["```console", record.get("command", f"python benchmarks/{name}.py --json"), "```", ""]
    return "\n".join(lines)


def _kills(record: dict[str, Any]) -> list[str]:
    kills = record["kills"]
    return [
        f"{len(kills)} runs of {record['epochs']} epochs were killed (SIGKILL) after "
        f"{min(k['after_seconds'] for k in kills):.1f} to {max(k['after_seconds'] for k in kills):.1f} seconds "
        f"and resumed: **{record['same']} of {len(kills)}** reached the digest of the uninterrupted run."
    ]


def _pointing(record: dict[str, Any]) -> list[str]:
    methods = record["methods"]
    lines = [
        f"Seed {record['seed']}. Number of heatmap maxima inside the drawn finding; in brackets inside or within "
        "3 % of the width.",
        "",
        f"| finding | {' | '.join(methods)} | by chance |",
        "| --- |" + " --- |" * (len(methods) + 1),
    ]
    for games in zip(*methods.values(), strict=True):
        hits = " | ".join(_hits(game) for game in games)
        lines.append(f"| {games[0]['target'].replace('_', ' ')} | {hits} | {games[0]['chance']:.2f} |")
    return lines


def _hits(game: dict[str, Any]) -> str:
    return f"{game['hits']} of {game['games']}, {game['share']:.2f} ({game['near']})"


def _comparison(record: dict[str, Any]) -> list[str]:
    lines = ["| population | claims about models | claims about settings |", "| --- | --- | --- |"]
    for population, result in record["results"].items():
        claims = result["claimed"]
        cells = (
            ", ".join(f"{_words(score)} {share:.1%}" for score, share in claims.get(kind, {}).items())
            for kind in ("models", "settings")
        )
        lines.append(f"| {population} | " + " | ".join(cells) + " |")
    return [
        f"Proportion of {record['simulations']:,} simulated comparisons in which a difference was claimed:",
        "",
        *lines,
    ]


def _uncertainty(record: dict[str, Any]) -> list[str]:
    lines = ["| interval | score | rare | uncommon | common |", "| --- | --- | --- | --- | --- |"]
    for kind, names in (
        ("hilum", "Hilum's"),
        ("percentile", "percentile"),
        ("images_percentile", "over images"),
    ):
        for score, by in record["coverage"][kind].items():
            cells = " | ".join(f"{by[level]:.1%}" for level in ("rare", "uncommon", "common"))
            lines.append(f"| {names} | {_words(score)} | {cells} |")
    return ["How often 95 % intervals covered the truth:", "", *lines]


def _service_load(record: dict[str, Any]) -> list[str]:
    answers = ", ".join(f"{number:,} of {status}" for status, number in sorted(record["statuses"].items()))
    return [
        f"{record['clients']} clients for {record['seconds']:.0f} seconds on {record['cpus']} cores: {answers}, "
        f"{sum(record['errors'].values())} errors.",
        "",
        "| measure | result | goal |",
        "| --- | --- | --- |",
        f"| 99th percentile / median of a single client | {record['p99_over_single']:.1f} | below 10 |",
        f"| images per second / those of a single client | {record['throughput_ratio']:.2f} | 1 or more |",
        f"| growth of resident memory after the warm-up | {record['resident_growth']:.1%} | below 5 % |",
    ]


def _hostile(record: dict[str, Any]) -> list[str]:
    lines = ["| mutation | refused with a reason | still a valid image |", "| --- | --- | --- |"]
    lines += [
        f"| {mutation.replace('_', ' ')} | {found.get('refused', 0)} | {found.get('read', 0)} |"
        for mutation, found in record["by_mutation"].items()
    ]
    alive = "the same process answered all of them" if record["same_process"] else "the service was restarted"
    return [
        f"Of {record['files']:,} files {record['refused']:,} were refused and {record['read']:,} scored; "
        f"{len(record['failed'])} failed, and {alive}.",
        "",
        *lines,
    ]


def _quality_checks(record: dict[str, Any]) -> list[str]:
    codes = sorted({code for found in record["counts"].values() for code in found} - {"images"})
    lines = [f"| images | number | {' | '.join(codes)} |", "| --- |" + " --- |" * (len(codes) + 1)]
    for name, found in record["counts"].items():
        cells = " | ".join(str(found.get(code, 0)) for code in codes)
        lines.append(f"| {_words(name)} | {found['images']} | {cells} |")
    return [
        *lines,
        "",
        f"PyTorch's and ONNX Runtime's probabilities differ by at most {record['largest_probability_difference']:.1g}.",
    ]


#: What a figure holds for, as the benchmarks name it.
_CONDITIONS = (
    *(
        "device",
        "threads",
        "cores",
        "cpus",
        "model",
        "size",
        "batch_size",
        "images",
        "targets",
        "bytes_per_jpeg",
    ),
    *("replicates", "simulations", "epochs", "seed"),
)

#: Results that are no ratios, by benchmark: lines of Markdown.
_SPECIAL = {
    "kills": _kills,
    "pointing": _pointing,
    "comparison": _comparison,
    "uncertainty": _uncertainty,
    "service_load": _service_load,
    "hostile": _hostile,
    "quality_checks": _quality_checks,
}


def _first_paragraph(script: Path) -> str:
    if not script.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def _words(key: str) -> str:
    known = {"roc_auc": "ROC AUC", "avg_precision": "average precision"}
    return known.get(key, key.replace("_to_", " / ").replace("_", " "))


def _number(value: float) -> str:
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
