"""The whole way in a few minutes: phantom → clean → train → table and figures."""

from pathlib import Path

from hilum.errors import HilumError
from hilum.report.terminal import itemized_table, print_table
from hilum.run_folder import RunFolder
from hilum.targets import COMPETITION_TARGETS

#: Small enough for two cores and four minutes, large enough to learn from.
IMAGES = 2400
SETTINGS = {
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
    """Draws phantom radiographs, trains a ResNet-18 on them, and says how well it finds each finding.

    Args:
        out: gets `phantom/` (the radiographs, used again when they are there) and `runs/`.

    Raises:
        HilumError: `out` cannot be used.
    """
    # Imported here, so that the first line is on the screen before torch is loaded.
    print(f"1. Drawing {IMAGES:,} synthetic radiographs with known findings into {out / 'phantom'}")
    from hilum.phantom import write_phantom

    write_phantom(out / "phantom", images=IMAGES)

    print("2. Cleaning them as CheXpert is cleaned, keeping each patient on one side of the split, training")
    from hilum.training.run import StandardTraining

    training = StandardTraining(**SETTINGS, root=out / "phantom", save_path=out / "runs")
    metrics = training.train()

    folder = training.folder
    scores, epoch = metrics.scores, folder.best_epoch
    best = scores[(scores["epoch"] == epoch) & (scores["part"] == "val")]
    print(
        f"\n3. What it finds in the radiographs of patients it has never seen (epoch {epoch}, thresholds of 0.5)"
    )
    print_table(itemized_table(best))
    competition = best[best["target"].isin(COMPETITION_TARGETS)]["roc_auc"].mean()
    print(f"\nMean ROC AUC over the five targets of the CheXpert competition: {competition:.3f}")
    print(
        "These are drawings, easier than people: the figures say that the way works, not how good a model is."
    )
    _point(folder)
    print("\n5. Where things lie")
    print(f"report    {folder.path / 'report.html'}  (open it in a browser)")
    print(f"figures   {folder.figures}")
    print(f"all runs  hilum runs {out / 'runs'}")
    print(f"again     hilum show {folder.path}")


def _point(folder: RunFolder) -> None:
    print(
        "\n4. Whether its heatmaps point at what was drawn: of the findings that it found at the thresholds of"
    )
    print("   run.json, which aim at a recall of 0.9, so many hottest places lie inside")
    from hilum.inference.heatmaps import write_pointing_game
    from hilum.report.run_page import write_report

    try:
        played = write_pointing_game(folder)["findings"]
    except HilumError as error:  # Captum is an extra
        print(error)
        return
    for game in played:
        if game["games"]:
            print(
                f"{game['target']:<18} {game['hits']:>3} of {game['games']:<3}   (a random place: {game['chance']:.0%})"
            )
    write_report(folder)
