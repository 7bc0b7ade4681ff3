"""Hilum in a few minutes: phantom → clean → train → table, heatmaps and report."""

from pathlib import Path
from typing import Any

from hilum.errors import HilumError
from hilum.report.terminal import standard_console, target_table
from hilum.run_folder import RunFolder
from hilum.targets import COMPETITION_TARGETS

#: Small enough for four minutes on two cores, large enough to learn from.
IMAGES = 2400
SETTINGS: dict[str, Any] = {
    "source": "phantom",
    "image_width": 64,
    "image_height": 64,
    "num_epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "aug_fraction": 0.2,
    "epoch_args": "none",
}


def run_demo(out: Path) -> None:
    """Draws phantom radiographs, trains a ResNet-18 on them, and prints how well it detects each finding.

    Args:
        out: output folder, with `phantom/` (the radiographs, reused if they exist) and `runs/`.

    Raises:
        HilumError: if `out` cannot be used.
    """
    # Imports here, so that the first line is printed before torch is loaded.
    print(f"1. Drawing {IMAGES:,} synthetic radiographs with known findings into {out / 'phantom'}")
    from hilum.phantom import write_phantom

    write_phantom(out / "phantom", images=IMAGES)

    print("2. Cleaning the table like CheXpert's, splitting by patient, training a ResNet-18")
    from hilum.training.run import StandardTraining

    training = StandardTraining(**SETTINGS, root=out / "phantom", save_path=out / "runs")
    metrics = training.train()

    folder = training.folder
    assert folder is not None  # training creates it
    scores, epoch = metrics.scores, folder.best_epoch
    best = scores[(scores["epoch"] == epoch) & (scores["part"] == "val")]
    print(f"\n3. Scores on the validation patients (epoch {epoch}, thresholds of 0.5)")
    standard_console().print(target_table(best))
    competition = best[best["target"].isin(COMPETITION_TARGETS)]["roc_auc"].mean()
    print(f"\nMean ROC AUC over the five targets of the CheXpert competition: {competition:.3f}")
    print("Synthetic radiographs are easier than real ones: the scores only show that training works.")
    _print_pointing_game(folder)
    print("\n5. Files")
    print(f"report    {folder.path / 'report.html'}  (open it in a browser)")
    print(f"figures   {folder.figures}")
    print(f"all runs  hilum runs {out / 'runs'}")
    print(f"scores    hilum show {folder.path}")


def _print_pointing_game(folder: RunFolder) -> None:
    print("\n4. Pointing game: true positives whose heatmap has its maximum inside the drawn finding")
    print("   (at the thresholds in run.json, chosen for a recall of 0.9)")
    from hilum.inference.heatmaps import write_pointing_game
    from hilum.report.run_page import write_report

    try:
        games = write_pointing_game(folder)["findings"]
    except HilumError as error:  # Captum is an optional package
        print(error)
        return
    for game in games:
        if game["games"]:
            hits = f"{game['hits']:>3} of {game['games']:<3}"
            print(f"{game['target']:<18} {hits}   (by chance: {game['chance']:.0%})")
    write_report(folder)
