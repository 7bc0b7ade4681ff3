"""Executes the notebooks in Jupyter kernels and writes them with their outputs.

    python notebooks/execute.py                      all, at full size (hours on a CPU)
    python notebooks/execute.py --small              all, at the smallest size (minutes): make notebooks
    python notebooks/execute.py support/metrics      one

If an assertion of a notebook fails, the exit code is 1.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent


def notebooks(names: list[str]) -> list[Path]:
    """The files of the named notebooks, such as "support/metrics", or of all."""
    found = sorted(HERE.glob("*/*.py"))
    by_name = {str(path.relative_to(HERE).with_suffix("")): path for path in found}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        sys.exit(f"There is no notebook {unknown[0]!r}. Known: {', '.join(by_name)}.")
    return [by_name[name] for name in names] or found


def execute(path: Path, out: Path) -> str | None:
    """Executes one notebook and writes `out`/<folder>/<name>.ipynb.

    Returns:
        The error message, or None.
    """
    notebook = jupytext.read(path)
    # Kernels listen on loopback, with a key. This hides their warning that the connection is not encrypted.
    quiet = ["--IPKernelApp.log_level=40"]
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=quiet,
        resources={"metadata": {"path": str(path.parent)}},
    )
    failure = None
    try:
        client.execute()
    except CellExecutionError as error:
        failure = str(error)
    target = out / path.relative_to(HERE).with_suffix(".ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    return failure


def main() -> None:
    """Executes the notebooks named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="such as support/metrics (default: all)")
    parser.add_argument("--small", action="store_true", help="smallest size, on synthetic data only")
    parser.add_argument("--out", type=Path, default=HERE.parent / "notebooks-executed", help="output folder")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at once")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.small:
            os.environ |= {
                "HILUM_NOTEBOOKS": "small",
                "HILUM_DATA": f"{folder}/data",
                "HILUM_RUNS": f"{folder}/runs",
                "OMP_NUM_THREADS": "1",
            }
        # Kernels import the same hilum as this process, installed or not.
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])
        )
        paths = notebooks(chosen.names)

        def timed(path: Path) -> tuple[Path, str | None, float]:
            start = time.monotonic()
            return path, execute(path, chosen.out), time.monotonic() - start

        failed = 0
        with ThreadPoolExecutor(chosen.jobs) as pool:
            for path, failure, seconds in pool.map(timed, paths):
                name = path.relative_to(HERE).with_suffix("")
                print(f"{name!s:50} {'failed' if failure else 'ok':6} {seconds:5.0f} s", flush=True)
                if failure:
                    failed += 1
                    print(failure, file=sys.stderr)
    print(f"{len(paths) - failed} of {len(paths)} notebooks, with their outputs, are in {chosen.out}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
