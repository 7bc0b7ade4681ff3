"""What several benchmarks share: the command line's common flags, and the summary of repeated runs."""

import argparse
import statistics
from collections.abc import Sequence


def make_parser(docstring: str, quick: str) -> argparse.ArgumentParser:
    """A parser with the flags --json and --quick.

    Args:
        docstring: of the benchmark; its first line is the description.
        quick: the help of --quick.
    """
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum, maximum and number of the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}
