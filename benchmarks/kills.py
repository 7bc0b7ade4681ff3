"""Runs killed with SIGKILL at random moments and resumed: do they reach the digest of an uninterrupted run?

A ResNet-18 is trained for three epochs on a small phantom: once without interruption, and then several times, each
killed at a random moment after its folder has appeared, and resumed. Every digest must be the same.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hilum.phantom import write_phantom
from hilum.randomness import generator
from hilum.run_folder import RunFolder

EPOCHS = 3


def command(*words: str) -> list[str]:
    """The command line of Hilum, in a process of its own."""
    return [sys.executable, "-m", "hilum", *words]


def training(data: Path, runs: Path, name: str) -> list[str]:
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


def killed_after(arguments: list[str], folder: Path, seconds: float) -> int:
    """Starts a run, kills it so long after its folder has appeared; the number of its ended epochs."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "run.json").exists():
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return int(RunFolder(folder).record.get("epochs_done", 0))


def measure(kills: int, images: int, seed: int = 0) -> dict[str, object]:
    """The digest of the run left alone, and what became of each run that was killed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        data, runs = Path(temporary) / "data", Path(temporary) / "runs"
        write_phantom(data, images=images, size=32, seed=seed)
        subprocess.run(training(data, runs, "whole"), check=True, capture_output=True)
        whole = RunFolder(runs / "whole").record
        moments = generator(seed, "kills").uniform(0, whole["seconds"], kills)
        killed = []
        for number, moment in enumerate(moments.tolist()):
            folder = runs / f"killed-{number}"
            done = killed_after(training(data, runs, folder.name), folder, moment)
            told = ""
            if RunFolder(folder).record["status"] != "finished":  # else it was killed at its figures
                told = subprocess.run(command("resume", str(folder)), capture_output=True, text=True).stderr
            same = RunFolder(folder).record.get("digest") == whole["digest"]
            killed.append({"after_seconds": round(moment, 2), "epochs_done": done, "same_digest": same})
            outcome = "the same digest" if same else f"another digest, or an error: {told}"
            print(f"killed after {moment:.2f} s, {done} epochs done: {outcome}", flush=True)
    return {
        "benchmark": "kills",
        "epochs": EPOCHS,
        "seconds_without_a_kill": whole["seconds"],
        "kills": killed,
        "same": sum(each["same_digest"] for each in killed),
    }


def main() -> None:
    """Runs it and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="one kill and 40 images")
    parser.add_argument("--kills", type=int, default=None, help="how many (default: 10)")
    arguments = parser.parse_args()
    result = measure(arguments.kills or (1 if arguments.quick else 10), 40 if arguments.quick else 200)
    print(
        f"{result['same']} of {len(result['kills'])} killed and resumed runs have the digest of the run left alone"
    )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
