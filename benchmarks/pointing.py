"""The pointing game: are the maxima of heatmaps inside the findings? On the demo's model, or on a given run.

    python benchmarks/pointing.py [--run RUN] [--seed SEED] [--method METHOD] [--json] [--quick]

Without --run it draws the demo's phantom and trains the demo's model first (minutes); another --seed gives other
patients and another model.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from hilum.inference import HEATMAP_METHODS
from hilum.inference.heatmaps import pointing_game
from hilum.run_folder import RunFolder


def train(out: Path, quick: bool, seed: int) -> RunFolder:
    """The demo's model; a tiny one with `quick`."""
    from hilum.demo import IMAGES, SETTINGS
    from hilum.phantom import write_phantom
    from hilum.training.run import StandardTraining

    tiny = {"image_width": 32, "image_height": 32, "num_epochs": 1, "num_workers": 0} if quick else {}
    write_phantom(out / "phantom", images=60 if quick else IMAGES, size=64 if quick else 128, seed=seed)
    settings = SETTINGS | tiny | {"seed": seed}
    training = StandardTraining(**settings, root=out / "phantom", save_path=out / "runs", quiet=True)
    training.train()
    return training.folder


def main() -> None:
    """Plays it and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a run on a phantom; default: train one")
    parser.add_argument("--seed", type=int, default=0, help="of the phantom and of the training")
    parser.add_argument("--method", choices=[*HEATMAP_METHODS, "all"], default="all")
    parser.add_argument("--most", type=int, help="games per finding at most")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few games: for the tests")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(given.run) if given.run else train(Path(scratch), given.quick, given.seed)
        methods = HEATMAP_METHODS if given.method == "all" else (given.method,)
        most = 3 if given.quick else given.most
        results = {method: pointing_game(folder, method=method, most=most) for method in methods}
    command = " ".join(["python benchmarks/pointing.py", *sys.argv[1:]])
    for method, played in results.items():
        print(f"\n{method}")
        for game in played:
            share = (
                "n/a"
                if game.share is None
                else f"{game.share:.2f} ({game.low:.2f}-{game.high:.2f}), near {game.near}"
            )
            by_chance = "" if game.chance is None else f", by chance {game.chance:.2f}"
            print(f"  {game.target:<18} {game.hits:>4} of {game.games:<4} {share}{by_chance}")
    if given.json:
        found = {method: [asdict(game) for game in played] for method, played in results.items()}
        record = {
            "benchmark": "pointing",
            "command": command,
            "seed": folder.record["seed"],
            "epoch": folder.best_epoch,
        }
        print(json.dumps(record | {"methods": found}))


if __name__ == "__main__":
    main()
