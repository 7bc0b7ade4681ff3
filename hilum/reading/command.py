"""What `hilum predict` does."""

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hilum.errors import HilumError
from hilum.files import replacing
from hilum.reading.constants import DEFAULT_METHOD, RESEARCH_USE
from hilum.reading.opening import open_reader
from hilum.reading.predict import find_files, predict
from hilum.reading.reader import Reader
from hilum.reading.tables import (
    CSV_COLUMNS,
    ORDER_WORDS,
    csv_rows,
    json_values,
    model_values,
    status_of,
    text_of,
)


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
        heatmap_method: one of `hilum.reading.constants.HEATMAP_METHODS`.
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
        from hilum.reading.overlay import (
            OVERLAY_COLUMNS,
            OVERLAY_RECORD,
            prepare_overlays,
            write_overlays,
        )

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
    text = json.dumps(content, indent=2)
    if file == "-":
        print(text)
        return
    with replacing(file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
