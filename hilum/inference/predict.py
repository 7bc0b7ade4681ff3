"""Many files → their readings, in order, decoded by threads while the model runs."""

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
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hilum.errors import HilumError, ImageError
from hilum.files import replacing, write_json
from hilum.inference import DEFAULT_METHOD, RESEARCH_NOTE, RESEARCH_USE
from hilum.inference.image import Film, Limits
from hilum.inference.opener import open_reader
from hilum.inference.reader import Finding, Reader, Reading
from hilum.machine import cores
from hilum.report.format import small_share
from hilum.sources.images import read_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


@dataclass(frozen=True)
class Prediction:
    """What became of one file.

    Attributes:
        path: of the file.
        reading: None if the file could not be decoded.
        error: why not; None if it could.
    """

    path: str
    reading: Reading | None
    error: ImageError | None = None

    @property
    def was_read(self) -> bool:
        """Whether it has findings."""
        return self.reading is not None and not self.reading.film.refused


def find_files(paths: Sequence[str]) -> list[str]:
    """The files that are meant, each once: files as given, folders searched to any depth, globs expanded.

    In folders and from globs only files with the ending of an image or a DICOM are taken, and in folders also files
    without any ending that begin as a DICOM does. They come in alphabetical order. A name with characters of a glob
    that exists as given is meant literally, also as the folder of a pattern. What is there but is no regular file, as a
    dangling link, is given back all the same: `predict` says that it cannot be read.

    Raises:
        HilumError: a path or a pattern that leads to nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        files = _files_of(path)
        if not files:
            if os.path.isdir(path):  # noqa: PTH112 - as in _files_of
                raise HilumError(f"{path}: the folder holds no PNG, JPEG or DICOM file.")
            raise HilumError(
                f"{path}: there is no such file or image. Give files, folders or patterns of {', '.join(SUFFIXES)}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _files_of(path: str) -> list[str]:
    # os.path keeps the user's own spelling, and says no where pathlib raises PermissionError.
    if os.path.isdir(path):  # noqa: PTH112
        return sorted(str(file) for file in Path(path).rglob("*") if _is_image(file))
    if os.path.lexists(path):
        return [path]
    found: set[str] = set()
    for match in glob.glob(_pattern_of(path), recursive=True):  # noqa: PTH207 - the pattern may be absolute
        if os.path.isdir(match):  # noqa: PTH112
            found.update(_files_of(match))
        elif _is_image(Path(match)):
            found.add(match)
    return sorted(found)


def _pattern_of(path: str) -> str:
    """The path as a pattern, in which the folders that exist as given stand for themselves."""
    folder = os.path.dirname(path)  # noqa: PTH120
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    return glob.escape(folder) + path[len(folder) :]


def _is_image(file: Path) -> bool:
    if os.path.isdir(file):  # noqa: PTH112
        return False
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    if not os.path.isfile(file):  # noqa: PTH113 - opening a pipe would wait for ever
        return False
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def predict(
    reader: Reader,
    files: Iterable[str],
    *,
    batch_size: int = 16,
    workers: int | None = None,
    limits: Limits | None = None,
) -> Iterator[Prediction]:
    """Reads files, in their order; no more than a few batches are held in memory.

    Args:
        reader: the model.
        files: their paths.
        batch_size: films that the model is given at once.
        workers: threads that decode; one per core if left out.
        limits: what a file may ask for.
    """
    with ThreadPoolExecutor(workers or cores()) as pool:
        waiting = iter(files)
        ahead: deque[tuple[str, Future[Film]]] = deque()

        def ask_for(count: int) -> None:
            for path in islice(waiting, count):
                ahead.append((path, pool.submit(_film, reader, path, limits)))

        ask_for(3 * batch_size)
        while ahead:
            batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
            films: dict[str, Film | ImageError] = {}
            for path, future in batch:
                try:
                    films[path] = future.result()
                except ImageError as error:
                    films[path] = error
            ask_for(len(batch))
            readings = iter(reader.read([film for film in films.values() if isinstance(film, Film)]))
            for path, film in films.items():
                if isinstance(film, Film):
                    yield Prediction(path, next(readings))
                else:
                    yield Prediction(path, None, film)


def _film(reader: Reader, path: str, limits: Limits | None) -> Film:
    limits = limits or Limits()
    try:
        about = Path(path).stat()
    except FileNotFoundError:
        raise ImageError("missing", f"{path}: the file is missing, or a link to nowhere.") from None
    except OSError as error:
        raise ImageError("unreadable", f"{path}: the file cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(about.st_mode):
        raise ImageError("unreadable", f"{path}: this is no regular file.")
    size = about.st_size
    if size > limits.max_bytes:
        raise ImageError(
            "too-large", f"{path}: the file has {size:,} bytes; at most {limits.max_bytes:,} are read."
        )
    return reader.film(read_bytes(path), path, limits)


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
    """Reads the files and prints or writes what was found, image by image.

    Args:
        model: a run folder or a bundle.
        paths: files, folders, patterns.
        csv_file: where to write rows; None for nowhere.
        json_file: where to write JSON; "-" prints it, and nothing else; None for nowhere.
        every: show all findings on the terminal.
        heatmaps: the folder of the overlays; None for none.
        heatmap_method: one of `hilum.inference.HEATMAP_METHODS`.
        device: auto, cpu, cuda or cuda:N.
        batch_size: films read at once.

    Raises:
        HilumError: the model, a path or a place to write to cannot be used, or not one image could be read.
    """
    files = find_files(paths)
    silent = json_file == "-"
    for output in (csv_file, None if silent or json_file is None else Path(json_file)):
        if output is not None:
            _check_output(output)
    reader = open_reader(model, device)
    if heatmaps is not None:
        from hilum.inference.overlay import OVERLAY_COLUMNS, OVERLAY_RECORD, prepare_overlays, write_overlays

        prepare_overlays(reader, heatmaps)
        _check_output(heatmaps / OVERLAY_RECORD)
    table = json_file is None and csv_file is None
    if not silent:
        print(f"{reader.card['name']}: {RESEARCH_USE}")
        if reader.card["preprocessing"].get("reference") is None:
            lack = reader.card["preprocessing"].get("reference_lack")
            print(f"note: images are not compared with those of the training: {lack}.")
        if table:
            print(ORDER_WORDS)
    counts: Counter[str] = Counter()
    images: list[dict[str, Any]] = []
    began = time.perf_counter()
    with ExitStack() as stack:
        write = _csv_writer(stack, csv_file, CSV_COLUMNS) if csv_file is not None else None
        write_checks = (
            _csv_writer(stack, heatmaps / OVERLAY_RECORD, OVERLAY_COLUMNS) if heatmaps is not None else None
        )
        for prediction in predict(reader, files, batch_size=batch_size):
            counts[status_of(prediction)] += 1
            if json_file is not None:
                images.append(json_values(prediction))
            if write is not None:
                write(csv_rows(prediction))
            if table:
                print(text_of(prediction, every))
            if write_checks is not None and prediction.was_read:
                write_checks(write_overlays(reader, prediction, heatmaps, heatmap_method))
    seconds = time.perf_counter() - began
    if json_file is not None:
        _write_json(reader, images, len(files) / seconds, json_file)
    if not counts["read"]:
        if len(files) == 1:
            raise HilumError(f"The image was not read: it is {next(iter(counts))}.")
        reasons = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
        raise HilumError(f"None of {len(files):,} images was read: {reasons}.")
    if not silent:
        others = len(files) - counts["read"]
        print(
            f"{counts['read']:,} of {len(files):,} images read"
            + (f", {others:,} not" if others else "")
            + f"; {len(files) / seconds:,.1f} images/s"
        )


def _check_output(path: Path) -> None:
    """Refuses, before the work, a file that could not be written after it; makes nothing."""
    if path.is_dir():
        raise HilumError(f"{path}: this is a folder. Give the name of a file.")
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise HilumError(f"{path}: the file cannot be written: {folder} is no folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise HilumError(f"{path}: the file cannot be written: {folder} may not be written to.")


def _csv_writer(
    stack: ExitStack, path: Path, columns: Sequence[str]
) -> Callable[[list[dict[str, Any]]], None]:
    partial = stack.enter_context(replacing(path))
    file = stack.enter_context(partial.open("w", newline="", encoding="utf-8"))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    return writer.writerows


def _write_json(reader: Reader, images: list[dict[str, Any]], speed: float, file: str) -> None:
    content = {"model": model_values(reader), "images": images, "images_per_second": round(speed, 1)}
    if file == "-":
        print(json.dumps(content, indent=2))
    else:
        write_json(file, content)


CSV_COLUMNS = (
    *("image", "status", "view", "flags", "rank", "finding", "suggested", "probability", "threshold"),
    *(
        "threshold_measured",
        "calibrated",
        "priority",
        "recall",
        "recall_low",
        "recall_high",
        "reason",
        "note",
    ),
)

#: Above the lines of a terminal.
ORDER_WORDS = "Findings are ordered by how far each is above its threshold, in log odds (+ above, - below)."


def text_of(prediction: Prediction, every: bool = False) -> str:
    """One file's lines for a terminal.

    Args:
        prediction: of the file.
        every: all findings; else those suggested, and how many others there are.
    """
    if prediction.reading is None:
        return f"{prediction.path}\n  not read ({prediction.error.code}): {prediction.error.problem}"
    film, findings = prediction.reading.film, prediction.reading.findings
    lines = [f"{prediction.path}" + (f"  ({film.view})" if film.view else "")]
    for flag in film.flags:
        lines.append(f"  {'refused' if flag.refused else 'note'} ({flag.code}): {flag.words}")
    if film.refused:
        return "\n".join(lines)
    shown = [finding for finding in findings if every or finding.suggested]
    width = max((len(finding.target) for finding in findings), default=0)
    lines += [f"  {_line(finding, width)}" for finding in shown]
    rest = len(findings) - len(shown)
    if rest:
        lines.append(f"  {'nothing suggested; ' if not shown else ''}{rest} below their thresholds")
    return "\n".join(lines)


def _line(finding: Finding, width: int) -> str:
    measured = "" if finding.threshold_measured else "  threshold not measured"
    words = (
        f"{finding.target:<{width}}  {small_share(finding.probability):>7}  "
        f"threshold {small_share(finding.threshold):>7}  "
        f"{finding.priority:+6.2f}  {'suggested' if finding.suggested else '-'}{measured}"
    )
    return words if finding.calibrated is None else f"{words}  calibrated {small_share(finding.calibrated)}"


def csv_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """One row per finding, the first in priority first; one row without a finding for a file without any."""
    about: dict[str, Any] = {"image": prediction.path, "status": status_of(prediction), "note": RESEARCH_NOTE}
    if prediction.reading is None:
        return [about | {"reason": prediction.error.problem}]
    film = prediction.reading.film
    about |= {"view": film.view or "", "flags": " ".join(flag.code for flag in film.flags)}
    if film.refused:
        return [about | {"reason": " ".join(flag.words for flag in film.flags if flag.refused)}]
    return [
        about | {"rank": rank} | finding_values(finding)
        for rank, finding in enumerate(prediction.reading.findings, 1)
    ]


def status_of(prediction: Prediction) -> str:
    """The word "read" or "refused", or the code of what was wrong with the file."""
    if prediction.reading is None:
        return prediction.error.code
    return "refused" if prediction.reading.film.refused else "read"


def finding_values(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values."""
    return {
        "finding": finding.target,
        "suggested": finding.suggested,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "threshold_measured": finding.threshold_measured,
        "calibrated": finding.calibrated,
        "priority": finding.priority,
        "recall": finding.recall,
        "recall_low": finding.recall_low,
        "recall_high": finding.recall_high,
    }


def json_values(prediction: Prediction) -> dict[str, Any]:
    """A file's prediction as JSON values."""
    values: dict[str, Any] = {"image": prediction.path, "status": status_of(prediction)}
    if prediction.reading is None:
        return values | {"reason": prediction.error.problem}
    film = prediction.reading.film
    return values | {
        "view": film.view,
        "flags": [{"code": flag.code, "words": flag.words, "refused": flag.refused} for flag in film.flags],
        "findings": [finding_values(finding) for finding in prediction.reading.findings],
    }


def model_values(reader: Reader) -> dict[str, Any]:
    """What the JSON says of the model."""
    return {name: reader.card.get(name) for name in ("name", "digest", "epoch", "targets", "research_use")}
