"""Scores over several seeds, with intervals over patients: on real radiographs, or on drawn ones.

Each seed draws its own split (by patient), initial weights, order and augmentation; for drawn radiographs also its own
patients. For every finding: the mean over seeds of the validation scores at the best epoch, their standard deviation
over seeds, and the 95 % interval over patients (bootstrap of whole patients; the mean of the seeds' limits). A score
that is undefined for a seed, because its validation part has no positive image, is averaged over the other seeds, and
their number is recorded.

    python benchmarks/scores.py nih --root path/to/nih-sample --json > benchmarks/results/nih-sample.json
    python benchmarks/scores.py phantom --json > benchmarks/results/phantom-scores.json
"""

import argparse
import contextlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum import demo
from hilum.config import RunConfig, settings_from_toml
from hilum.metrics import UndefinedScoreWarning
from hilum.metrics.predictions import Predictions
from hilum.metrics.scores import mean_with_interval, scores_with_intervals
from hilum.phantom import write_phantom
from hilum.run_folder import RunFolder
from hilum.training.run import StandardTraining

RECIPE = Path(__file__).parents[1] / "recipes" / "nih-sample.toml"
SCORES = ("roc_auc", "avg_precision", "recall", "precision")
MEAN = "mean over the findings"


def scores_of(folder: RunFolder, replicates: int) -> pd.DataFrame:
    """One row per finding, and one for their mean: `positives`, and each of `SCORES` with `_low` and `_high`."""
    best = Predictions.from_run(folder)
    table = scores_with_intervals(best, replicates=replicates)
    means = {score: mean_with_interval(best.bootstrap(replicates), score) for score in SCORES}
    last = {"target": MEAN, "positives": int(table["positives"].sum())}
    for score, found in means.items():
        last |= {score: found["mean"], f"{score}_low": found["low"], f"{score}_high": found["high"]}
    columns = ["target", "positives", *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high"))]
    return pd.concat([table[columns], pd.DataFrame([last])], ignore_index=True)[columns]


def over_seeds(tables: list[pd.DataFrame]) -> list[dict[str, Any]]:
    """The rows of the result; a score that no seed has is null."""
    rows = []
    for target in tables[0]["target"]:
        found = pd.concat([table[table["target"] == target] for table in tables])
        row: dict[str, Any] = {"target": target, "positives": [int(count) for count in found["positives"]]}
        for score in SCORES:
            values = found[score].dropna()
            limits = found.loc[values.index, [f"{score}_low", f"{score}_high"]]
            row[score] = {
                "mean": _plain(values.mean()),
                "sd": _plain(values.std(ddof=1)),
                "low": _plain(limits[f"{score}_low"].mean()),
                "high": _plain(limits[f"{score}_high"].mean()),
                "seeds": len(values),
            }
        rows.append(row)
    return rows


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def trained(settings: dict[str, Any], seed: int, root: Path | None, scratch: Path) -> RunFolder:
    """One seed's run; without a `root`, on radiographs that are drawn for it."""
    if root is None:
        root = scratch / f"phantom-{seed}"
        drawn = settings.pop("source_kwargs", {"images": demo.IMAGES})
        write_phantom(root, **drawn, seed=seed)
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
        training = StandardTraining(
            **settings, root=root, seed=seed, save_path=scratch, name=f"seed-{seed}", quiet=True
        )
        training.train()
    return RunFolder(training.folder.path)


def main() -> None:
    """Trains, scores and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", choices=["nih", "phantom"], help="the recipe for a small NIH sample, or the demo"
    )
    parser.add_argument("--root", type=Path, help="of nih: the sample, in NIH ChestX-ray14's layout")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    parser.add_argument(
        "--quick", action="store_true", help="one epoch of 32 x 32 on drawings, for the tests"
    )
    chosen = parser.parse_args()
    if chosen.data == "nih":
        settings = settings_from_toml(RECIPE) | {"epoch_args": "none"}
        origin, flags = f"`recipes/{RECIPE.name}`", "nih --root path/to/nih-sample"
    else:
        settings, origin, flags = dict(demo.SETTINGS), "the settings of `hilum demo`", "phantom"
    replicates = 1000
    if chosen.quick:
        settings |= {"source": "phantom", "source_kwargs": {"images": 120, "size": 32}}
        settings |= {"image_width": 32, "image_height": 32, "num_epochs": 1, "target_columns": "competition"}
        settings |= {"num_workers": 0}
        replicates = 100
    elif chosen.data == "nih" and chosen.root is None:
        parser.error("--root is missing: give the folder of the sample")
    warnings.simplefilter("ignore", UndefinedScoreWarning)
    with tempfile.TemporaryDirectory() as scratch:
        tables = []
        for seed in range(chosen.seeds):
            folder = trained(dict(settings), seed, chosen.root, Path(scratch))
            tables.append(scores_of(folder, replicates))
        catalog, device = folder.record["catalog"], folder.record["device"]
    config = RunConfig(**{name: value for name, value in settings.items() if name != "source_kwargs"})
    network = {"resnet_grayscale": f"ResNet-{config.net_kwargs.get('layers', 18)}"}.get(config.net_name)
    record = {
        "benchmark": "scores",
        "data": chosen.data,
        "images": catalog["images"],
        "seeds": chosen.seeds,
        "device": device,
        "settings": config.as_record(),
        "settings_in_words": f"{network or config.net_name} at {config.image_width} x {config.image_height}, "
        f"{config.num_epochs} epochs, {origin}",
        "command": f"python benchmarks/scores.py {flags} --json",
        "rows": over_seeds(tables),
    }
    if not chosen.json:
        for row in record["rows"]:
            auc = row["roc_auc"]
            if auc["mean"] is not None:
                spread = "" if auc["sd"] is None else f" +- {auc['sd']:.3f}"
                print(f"{row['target']:24} ROC AUC {auc['mean']:.3f}{spread} over {auc['seeds']} seeds")
        return
    print(json.dumps(record))


if __name__ == "__main__":
    main()
