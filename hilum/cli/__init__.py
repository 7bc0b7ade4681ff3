"""The command line. Each command parses its options, calls one function and prints the result."""

import os
import sys
import time
import warnings
from typing import Any

import click

from hilum import __version__
from hilum.cli.data import catalog, eda, hierarchy, pack, shards
from hilum.cli.inference import export, predict, serve
from hilum.cli.results import audit, compare, evaluate, report, runs, show
from hilum.cli.training import demo, find_lr, models, resume, sweep, train, verify
from hilum.errors import HilumError

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="hilum")
def cli() -> None:
    """Repeatable chest X-ray experiments: change one parameter, run again, and see whether it helped.

    Research use only: this is not a medical device.
    """


for command in (
    *(demo, catalog, eda, pack, hierarchy, shards, models, find_lr, train, resume, verify, sweep),
    *(runs, show, compare, report, evaluate, audit, export, predict, serve),
):
    cli.add_command(command)


def main() -> None:
    """Runs the command line. A HilumError is printed without a traceback and ends with exit code 2."""
    warnings.showwarning = _print_warning
    try:
        cli.main(prog_name="hilum", standalone_mode=False)
    except HilumError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(5)  # rank 0 has the same error; it prints it and ends the others
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


def _print_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)
