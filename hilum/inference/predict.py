"""`hilum predict`: many files to their results, in order; threads decode them while the model runs."""

import csv
import glob
import json
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from hilum.errors import HilumError, ImageError
from hilum.files import replacing, write_json
from hilum.inference import DEFAULT_METHOD, RESEARCH_NOTE, RESEARCH_USE
from hilum.inference.image import Limits, PreparedImage
from hilum.inference.reader import Finding, ImageResult, Reader, open_reader
from hilum.machine import cores
from hilum.report.format import format_probability

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

#: Of the JSON file. 2: a flag's `words` became `message`; every image has all keys, with null where unknown.
JSON_FORMAT = 2

_FINDING_COLUMNS = tuple(Finding.__dataclass_fields__)
CSV_COLUMNS = ("image", "status", "view", "flags", "rank", *_FINDING_COLUMNS, "reason", "note")


def find_files(paths: Sequence[str]) -> list[str]:
    """The files that paths name, each once: files as given, folders searched to any depth, globs expanded.

    In folders and from globs only files with the ending of an image or a DICOM are taken, and files without any
    ending that begin as a DICOM does. They are in alphabetical order. A path with glob characters that exists is
    literal, also as the folder of a pattern. What exists but is not a regular file, such as a dangling link, is
    returned as well: `predict` reports that it cannot be read.

    Raises:
        HilumError: a path or a pattern that matches nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        files = _files_of(path)
        if not files and os.path.isdir(path):  # noqa: PTH112 - as in _files_of
            raise HilumError(f"{path}: the folder holds no PNG, JPEG or DICOM file.")
        if not files:
            usable = f"files, folders or patterns of {', '.join(SUFFIXES)}"
            raise HilumError(f"{path}: there is no such file or image. Give {usable}.")
        found.update(dict.fromkeys(files))
    return list(found)


def _files_of(path: str) -> list[str]:
    # os.path keeps the user's own spelling, and returns False where pathlib raises PermissionError.
    if os.path.isdir(path):  # noqa: PTH112
        return sorted(str(file) for file in Path(path).rglob("*") if _is_image(file))
    if os.path.lexists(path):
        return [path]
    found: set[str] = set()
    for match in glob.glob(_escape_folders(path), recursive=True):  # noqa: PTH207 - it may be absolute
        if os.path.isdir(match):  # noqa: PTH112
            found.update(_files_of(match))
        elif _is_image(Path(match)):
            found.add(match)
    return sorted(found)


def _escape_folders(path: str) -> str:
    """The path as a pattern in which the folders that exist as given are literal."""
    folder = os.path.dirname(path)  # noqa: PTH120
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    return glob.escape(folder) + path[len(folder) :]


def _is_image(file: Path) -> bool:
    if os.path.isdir(file):  # noqa: PTH112
        return False
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    if not os.path.isfile(file):  # noqa: PTH113 - opening a pipe would block forever
        return False
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def predict(
    reader: Reader, files: Iterable[str], batch_size: int = 16
) -> Iterator[tuple[ImageResult, PreparedImage | None]]:
    """Yields each file's result, and its image if it could be decoded, in the files' order.

    `batch_size` images are in one pass of the model, and only a few batches are in memory at the same time.
    """
    with ThreadPoolExecutor(cores()) as pool:
        waiting = iter(files)
        decoding: deque[Future[PreparedImage | ImageResult]] = deque()

        def submit(count: int) -> None:
            decoding.extend(pool.submit(_prepare, reader, path) for path in islice(waiting, count))

        submit(3 * batch_size)
        while decoding:
            batch = [decoding.popleft().result() for _ in range(min(batch_size, len(decoding)))]
            submit(len(batch))
            results = iter(reader.read([each for each in batch if isinstance(each, PreparedImage)]))
            for each in batch:
                yield (each, None) if isinstance(each, ImageResult) else (next(results), each)


def _prepare(reader: Reader, path: str) -> PreparedImage | ImageResult:
    """A file's image, or the result of a file that cannot be read."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return ImageResult(path, "unreadable", f"{path}: this is not a regular file.")
        Limits().check_bytes(status.st_size, path)
        return reader.prepare(Path(path).read_bytes(), path)
    except ImageError as error:
        return ImageResult(path, error.code, error.problem)
    except FileNotFoundError:
        return ImageResult(path, "missing", f"{path}: the file is missing, or a link to nowhere.")
    except OSError as error:
        return ImageResult(path, "unreadable", f"{path}: the file cannot be read: {error.strerror}.")


def run_predict(
    model: Path,
    paths: Sequence[str],
    csv_file: Path | None = None,
    json_file: str | None = None,
    every: bool = False,
    heatmaps: Path | None = None,
    heatmap_method: str = DEFAULT_METHOD,
    device: str = "auto",
    batch_size: int = 16,
) -> None:
    """Reads the files and prints or writes their results, image by image.

    The arguments are those of the command; without an output file a table is printed, and `json_file` "-" prints the
    JSON and nothing else.

    Raises:
        HilumError: the model, a path or an output file cannot be used, or not one image could be read.
    """
    files = find_files(paths)
    silent = json_file == "-"
    for output in (csv_file, None if silent or json_file is None else Path(json_file)):
        if output is not None:
            _check_output(output)
    reader = open_reader(model, device)
    counts: Counter[str] = Counter()
    images: list[ImageResult] = []
    with ExitStack() as stack:
        write = _open_writers(stack, reader, csv_file, heatmaps, heatmap_method)
        table = json_file is None and csv_file is None
        if not silent:
            _print_header(reader, table)
        start = time.perf_counter()
        for result, image in predict(reader, files, batch_size=batch_size):
            counts[result.status] += 1
            if json_file is not None:
                images.append(result)
            if table:
                print(as_text(result, every))
            write(result, image)
        speed = len(files) / (time.perf_counter() - start)
    if json_file is not None:
        _write_json(reader, images, speed, json_file)
    if not counts["read"]:
        if len(files) == 1:
            raise HilumError(f"The image was not read: it is {next(iter(counts))}.")
        reasons = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
        raise HilumError(f"None of {len(files):,} images was read: {reasons}.")
    if not silent:
        others = len(files) - counts["read"]
        rest = f", {others:,} not" if others else ""
        print(f"{counts['read']:,} of {len(files):,} images read{rest}; {speed:,.1f} images/s")


def _check_output(path: Path) -> None:
    """Raises HilumError before the work if a file cannot be written after it; creates nothing."""
    if path.is_dir():
        raise HilumError(f"{path}: this is a folder. Give the name of a file.")
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise HilumError(f"{path}: the file cannot be written: {folder} is not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise HilumError(f"{path}: the file cannot be written: no permission to write to {folder}.")


def _open_writers(
    stack: ExitStack, reader: Reader, csv_file: Path | None, heatmaps: Path | None, method: str
) -> Callable[[ImageResult, PreparedImage | None], None]:
    """What writes an image's rows and overlays, to files that are complete when the stack closes."""
    write_checks = write_rows = None
    if heatmaps is not None:
        from hilum.inference.overlay import OVERLAY_COLUMNS, OVERLAY_RECORD, prepare_overlays, write_overlays

        prepare_overlays(reader, heatmaps)
        _check_output(heatmaps / OVERLAY_RECORD)
        write_checks = _open_csv(stack, heatmaps / OVERLAY_RECORD, OVERLAY_COLUMNS)
    if csv_file is not None:
        write_rows = _open_csv(stack, csv_file, CSV_COLUMNS)

    def write(result: ImageResult, image: PreparedImage | None) -> None:
        if write_rows:
            write_rows(csv_rows(result))
        if write_checks and heatmaps and image and result.findings:
            write_checks(write_overlays(reader, image, result, heatmaps, method))

    return write


def _open_csv(
    stack: ExitStack, path: Path, columns: Sequence[str]
) -> Callable[[Iterable[dict[str, Any]]], None]:
    partial = stack.enter_context(replacing(path))
    file = stack.enter_context(partial.open("w", newline="", encoding="utf-8"))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    return writer.writerows


def _print_header(reader: Reader, table: bool) -> None:
    print(f"{reader.metadata['name']}: {RESEARCH_USE}")
    preprocessing = reader.metadata["preprocessing"]
    if preprocessing.get("reference") is None:
        lack = preprocessing.get("reference_lack")
        print(f"note: images are not compared with the training images: {lack}.")
    if table:
        print("Findings are ordered by how far each is above its threshold, in log odds (+ above, - below).")


def _write_json(reader: Reader, images: list[ImageResult], speed: float, file: str) -> None:
    described = ("name", "digest", "epoch", "targets", "research_use")
    content = {
        "format": JSON_FORMAT,
        "model": {name: reader.metadata.get(name) for name in described},
        "images": [asdict(result) for result in images],
        "images_per_second": round(speed, 1),
    }
    if file == "-":
        print(json.dumps(content, indent=2))
    else:
        write_json(file, content)


def as_text(result: ImageResult, every: bool = False) -> str:
    """One image's lines for a terminal: every finding, or those suggested and the number of others."""
    if result.rows is None:
        return f"{result.image}\n  not read ({result.status}): {result.reason}"
    lines = [f"{result.image}" + (f"  ({result.view})" if result.view else "")]
    for flag in result.flags:
        lines.append(f"  {'refused' if flag.refused else 'note'} ({flag.code}): {flag.message}")
    shown = [finding for finding in result.findings if every or finding.suggested]
    width = max((len(finding.finding) for finding in result.findings), default=0)
    lines += [f"  {_line(finding, width)}" for finding in shown]
    rest = len(result.findings) - len(shown)
    if rest:
        lines.append(f"  {'' if shown else 'nothing suggested; '}{rest} below their thresholds")
    return "\n".join(lines)


def _line(finding: Finding, width: int) -> str:
    probability, threshold = (format_probability(value) for value in (finding.probability, finding.threshold))
    line = f"{finding.finding:<{width}}  {probability:>7}  threshold {threshold:>7}  {finding.priority:+6.2f}"
    line += "  suggested" if finding.suggested else "  -"
    if not finding.threshold_measured:
        line += "  threshold not measured"
    if finding.calibrated is not None:
        line += f"  calibrated {format_probability(finding.calibrated)}"
    return line


def csv_rows(result: ImageResult) -> list[dict[str, Any]]:
    """One row per finding, by rank; one row without a finding for an image that was not read."""
    columns = {"image": result.image, "status": result.status, "view": result.view, "note": RESEARCH_NOTE}
    columns |= {"reason": result.reason, "flags": " ".join(flag.code for flag in result.flags)}
    rows = [columns | {"rank": rank} | asdict(each) for rank, each in enumerate(result.findings, 1)]
    return rows or [columns]
