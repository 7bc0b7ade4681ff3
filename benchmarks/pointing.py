"""The pointing game: are the maxima of heatmaps inside the findings? For the demo's model, or a given run.

    python benchmarks/pointing.py [--run RUN] [--seed SEED] [--method METHOD] [--json] [--quick]

Without --run it first draws the demo's phantom and trains the demo's model (minutes). A different --seed gives
different patients and a different model.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from common import make_parser

from hilum.inference import HEATMAP_METHODS
from hilum.inference.heatmaps import pointing_game
from hilum.run_folder import RunFolder


def train(out: Path, quick: bool, seed: int) -> RunFolder:
    """Trains the demo's model, or a tiny one if `quick`."""
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
    """Runs the pointing game and prints the table."""
    parser = make_parser(__doc__, quick="a tiny model and few images, for the tests")
    parser.add_argument("--run", type=Path, help="a run on a phantom (default: train one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the phantom and of the training")
    parser.add_argument("--method", choices=[*HEATMAP_METHODS, "all"], default="all")
    parser.add_argument("--most", type=int, help="maximum number of images per finding")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (
            RunFolder(arguments.run)
            if arguments.run
            else train(Path(scratch), arguments.quick, arguments.seed)
        )
        methods = HEATMAP_METHODS if arguments.method == "all" else (arguments.method,)
        most = 3 if arguments.quick else arguments.most
        results = {method: pointing_game(folder, method=method, most=most) for method in methods}
    command = " ".join(["python benchmarks/pointing.py", *sys.argv[1:]])
    for method, games in results.items():
        print(f"\n{method}")
        for game in games:
            share = (
                "n/a"
                if game.share is None
                else f"{game.share:.2f} ({game.low:.2f}-{game.high:.2f}), near {game.near}"
            )
            by_chance = "" if game.chance is None else f", by chance {game.chance:.2f}"
            print(f"  {game.target:<18} {game.hits:>4} of {game.games:<4} {share}{by_chance}")
    if arguments.json:
        found = {method: [asdict(game) for game in games] for method, games in results.items()}
        record = {
            "benchmark": "pointing",
            "command": command,
            "seed": folder.record["seed"],
            "epoch": folder.best_epoch,
        }
        print(json.dumps(record | {"methods": found}))


if __name__ == "__main__":
    main()
