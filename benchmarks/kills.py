"""Runs killed with SIGKILL at random moments and resumed: do they reach the digest of an uninterrupted run?

A ResNet-18 is trained for three epochs on a small phantom, first without interruption. Then it is trained several
times, killed at a random moment after its folder exists, and resumed. Every digest must be the same.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import make_parser

from hilum.phantom import write_phantom
from hilum.randomness import generator
from hilum.run_folder import RunFolder

EPOCHS = 3


def command(*arguments: str) -> list[str]:
    """A command line of Hilum."""
    return [sys.executable, "-m", "hilum", *arguments]


def training_command(data: Path, runs: Path, name: str) -> list[str]:
    """The command that trains a run."""
    return command(
        *(
            "train",
            "--root",
            str(data),
            "--save-path",
            str(runs),
            "--name",
            name,
            "--num-epochs",
            str(EPOCHS),
        ),
        *(
            "--image-width",
            "32",
            "--image-height",
            "32",
            "--batch-size",
            "8",
            "--num-workers",
            "0",
            "--quiet",
        ),
        *("--epoch-args", "none", "--target-columns", "Edema,Pleural_Effusion"),
    )


def kill_after(arguments: list[str], folder: Path, seconds: float) -> int:
    """Starts a run, kills it the given time after its folder exists, and returns the number of completed epochs."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "run.json").exists():
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return int(RunFolder(folder).record.get("epochs_done", 0))


def measure(kills: int, images: int, seed: int = 0) -> dict[str, object]:
    """Compares the digest of an uninterrupted run with that of each killed and resumed run."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        data, runs = Path(temporary) / "data", Path(temporary) / "runs"
        write_phantom(data, images=images, size=32, seed=seed)
        subprocess.run(training_command(data, runs, "uninterrupted"), check=True, capture_output=True)
        uninterrupted = RunFolder(runs / "uninterrupted").record
        moments = generator(seed, "kills").uniform(0, uninterrupted["seconds"], kills)
        killed = []
        for number, moment in enumerate(moments.tolist()):
            folder = runs / f"killed-{number}"
            done = kill_after(training_command(data, runs, folder.name), folder, moment)
            errors = ""
            # A finished run was killed while it wrote its figures.
            if RunFolder(folder).record["status"] != "finished":
                errors = subprocess.run(command("resume", str(folder)), capture_output=True, text=True).stderr
            same = RunFolder(folder).record.get("digest") == uninterrupted["digest"]
            killed.append({"after_seconds": round(moment, 2), "epochs_done": done, "same_digest": same})
            outcome = "the same digest" if same else f"a different digest, or an error: {errors}"
            print(f"killed after {moment:.2f} s, {done} epochs completed: {outcome}", flush=True)
    return {
        "benchmark": "kills",
        "epochs": EPOCHS,
        "seconds_without_a_kill": uninterrupted["seconds"],
        "kills": killed,
        "same": sum(each["same_digest"] for each in killed),
    }


def main() -> None:
    """Runs the benchmark and prints the result."""
    parser = make_parser(__doc__, quick="one kill and 40 images")
    parser.add_argument("--kills", type=int, default=None, help="number of killed runs (default: 10)")
    arguments = parser.parse_args()
    result = measure(arguments.kills or (1 if arguments.quick else 10), 40 if arguments.quick else 200)
    print(
        f"{result['same']} of {len(result['kills'])} killed and resumed runs have the digest of the uninterrupted run"
    )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
