"""Scores over several seeds, with intervals over patients, for real or phantom radiographs.

Each seed has its own split (by patient), initial weights, order and augmentation, and for phantom radiographs also its
own patients. The result has, for every finding, the mean over seeds of the validation scores at the best epoch, their
standard deviation over seeds, and the 95 % interval over patients (cluster bootstrap; the mean of the limits over
seeds). If a score is undefined for a seed, because its validation part has no positive image, the mean is over the
other seeds, and their number is recorded.

    python benchmarks/scores.py nih --root path/to/nih-sample --json > benchmarks/results/nih-sample.json
    python benchmarks/scores.py phantom --json > benchmarks/results/phantom-scores.json
"""

import contextlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import make_parser

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
    """One row per finding and one for their mean, with `positives` and each of `SCORES` with `_low` and `_high`."""
    best = Predictions.from_run(folder)
    table = scores_with_intervals(best, replicates=replicates)
    means = {score: mean_with_interval(best.bootstrap(replicates), score) for score in SCORES}
    last = {"target": MEAN, "positives": int(table["positives"].sum())}
    for score, found in means.items():
        last |= {score: found["mean"], f"{score}_low": found["low"], f"{score}_high": found["high"]}
    columns = ["target", "positives", *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high"))]
    return pd.concat([table[columns], pd.DataFrame([last])], ignore_index=True)[columns]


def summarize_seeds(tables: list[pd.DataFrame]) -> list[dict[str, Any]]:
    """The rows of the result. A score that is undefined for all seeds is null."""
    rows = []
    for target in tables[0]["target"]:
        found = pd.concat([table[table["target"] == target] for table in tables])
        row: dict[str, Any] = {"target": target, "positives": [int(count) for count in found["positives"]]}
        for score in SCORES:
            values = found[score].dropna()
            limits = found.loc[values.index, [f"{score}_low", f"{score}_high"]]
            row[score] = {
                "mean": _rounded(values.mean()),
                "sd": _rounded(values.std(ddof=1)),
                "low": _rounded(limits[f"{score}_low"].mean()),
                "high": _rounded(limits[f"{score}_high"].mean()),
                "seeds": len(values),
            }
        rows.append(row)
    return rows


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def train(settings: dict[str, Any], seed: int, root: Path | None, scratch: Path) -> RunFolder:
    """Trains the run of one seed, on phantom radiographs if `root` is None."""
    if root is None:
        root = scratch / f"phantom-{seed}"
        phantom = settings.pop("source_kwargs", {"images": demo.IMAGES})
        write_phantom(root, **phantom, seed=seed)
    with contextlib.redirect_stdout(sys.stderr):  # standard output has only the result
        training = StandardTraining(
            **settings, root=root, seed=seed, save_path=scratch, name=f"seed-{seed}", quiet=True
        )
        training.train()
    return RunFolder(training.folder.path)


def main() -> None:
    """Trains one run per seed, scores them and prints the result."""
    parser = make_parser(__doc__, quick="one epoch at 32 x 32 on phantom images, for the tests")
    parser.add_argument(
        "data",
        choices=["nih", "phantom"],
        help="nih: recipes/nih-sample.toml, phantom: the settings of `hilum demo`",
    )
    parser.add_argument(
        "--root", type=Path, help="for nih: the folder of the sample, in NIH ChestX-ray14's layout"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    arguments = parser.parse_args()
    if arguments.data == "nih":
        settings = settings_from_toml(RECIPE) | {"epoch_args": "none"}
        origin, flags = f"`recipes/{RECIPE.name}`", "nih --root path/to/nih-sample"
    else:
        settings, origin, flags = dict(demo.SETTINGS), "the settings of `hilum demo`", "phantom"
    replicates = 1000
    if arguments.quick:
        settings |= {"source": "phantom", "source_kwargs": {"images": 120, "size": 32}}
        settings |= {"image_width": 32, "image_height": 32, "num_epochs": 1, "target_columns": "competition"}
        settings |= {"num_workers": 0}
        replicates = 100
    elif arguments.data == "nih" and arguments.root is None:
        parser.error("--root is missing: give the folder of the sample")
    warnings.simplefilter("ignore", UndefinedScoreWarning)
    with tempfile.TemporaryDirectory() as scratch:
        tables = []
        for seed in range(arguments.seeds):
            folder = train(dict(settings), seed, arguments.root, Path(scratch))
            tables.append(scores_of(folder, replicates))
        catalog, device = folder.record["catalog"], folder.record["device"]
    config = RunConfig(**{name: value for name, value in settings.items() if name != "source_kwargs"})
    network = {"resnet_grayscale": f"ResNet-{config.net_kwargs.get('layers', 18)}"}.get(config.net_name)
    record = {
        "benchmark": "scores",
        "data": arguments.data,
        "images": catalog["images"],
        "seeds": arguments.seeds,
        "device": device,
        "settings": config.as_record(),
        "settings_summary": f"{network or config.net_name} at {config.image_width} x {config.image_height}, "
        f"{config.num_epochs} epochs, {origin}",
        "command": f"python benchmarks/scores.py {flags} --json",
        "rows": summarize_seeds(tables),
    }
    if not arguments.json:
        for row in record["rows"]:
            auc = row["roc_auc"]
            if auc["mean"] is not None:
                spread = "" if auc["sd"] is None else f" +- {auc['sd']:.3f}"
                print(f"{row['target']:24} ROC AUC {auc['mean']:.3f}{spread} over {auc['seeds']} seeds")
        return
    print(json.dumps(record))


if __name__ == "__main__":
    main()
