"""Replaces `hilum train` and `hilum resume`: writes a run folder in a tenth of a second, or fails.

`fake_run.py SETTINGS [FOLDER]`; the settings' source_kwargs choose what it does:
sleep = seconds before the end (the folder is there before it), fail = text of an error, kill = a signal's number,
once = fail or kill only at the start, not if it is resumed.
"""

import hashlib
import json
import os
import signal
import sys
import time
import tomllib
from pathlib import Path


def main() -> None:
    settings = tomllib.loads(Path(sys.argv[1]).read_text())
    resumed = len(sys.argv) > 2
    folder = Path(sys.argv[2]) if resumed else Path(settings["save_path"]) / settings["name"]
    doing = settings.get("source_kwargs", {})
    if resumed:
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] != "finished", "a finished run is not started again"
    else:
        folder.mkdir(parents=True)
        record = {
            "format": 1,
            "name": settings["name"],
            "started": "2024-01-01T00:00:00+00:00",
            "targets": ["Edema"],
        }
        record |= {"settings": {"num_epochs": 1} | settings, "device": {"name": "fake", "threads": threads()}}
    record |= {"status": "running", "resumed": record.get("resumed", 0) + resumed, "pid": os.getpid()}
    write(folder / "run.json", record)
    print("training", flush=True)
    try:
        time.sleep(doing.get("sleep", 0))
    except KeyboardInterrupt:
        record |= {"status": "failed", "failure": "interrupted"}
        write(folder / "run.json", record)
        sys.exit(130)
    if not (resumed and doing.get("once")):
        if "kill" in doing:
            os.kill(os.getpid(), doing["kill"])
        if "fail" in doing:
            print(f"Traceback\nerror: {doing['fail']}", file=sys.stderr)
            sys.exit(2)
    auc = 0.6 + settings.get("learning_rate", 0) + 0.01 * settings.get("seed", 0)
    row = {
        "epoch": [1],
        "part": ["val"],
        "target": ["Edema"],
        "recall": [0.5],
        "precision": [0.4],
        "roc_auc": [auc],
    }
    put_table(row, folder / "scores.parquet")
    put_table({"epoch": [1], "part": ["val"], "loss": [0.7]}, folder / "combined.parquet")
    points = {"Edema": {"policy": "fixed", "recall": 0.9, "precision": 0.3}}
    record |= {"status": "finished", "best_epoch": 1, "epochs_done": 1, "seconds": 1.0, "digest": "ab"}
    write(folder / "run.json", record | {"operating_points": points})


def put_table(columns: dict, path: Path) -> None:
    """Copies a table that an earlier fake run wrote: importing pyarrow takes longer than all the rest."""
    kept = (
        Path(os.environ["FAKE_TABLES"])
        / f"{hashlib.sha256(json.dumps(columns).encode()).hexdigest()}.parquet"
    )
    if not kept.exists():
        import pyarrow as pa
        import pyarrow.parquet as pq

        partial = kept.with_suffix(f".{os.getpid()}")
        pq.write_table(pa.table(columns), partial)
        partial.replace(kept)
    path.write_bytes(kept.read_bytes())


def threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "0"))


def write(path: Path, record: dict) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.replace(path)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
