"""Every command: parse, call one function, print."""

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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hilum")
def cli() -> None:
    """Repeatable chest X-ray experiments: change one parameter, run again, know whether it helped.

    Research use only: nothing here is a medical device.
    """


for command in (
    *(demo, catalog, eda, pack, hierarchy, shards, models, find_lr, train, resume, verify, sweep),
    *(runs, show, compare, report, evaluate, audit, export, predict, serve),
):
    cli.add_command(command)


def main() -> None:
    """The command line: a HilumError is told without a traceback and ends with exit code 2."""
    warnings.showwarning = _show_warning
    try:
        cli.main(prog_name="hilum", standalone_mode=False)
    except HilumError as error:
        if os.environ.get("RANK", "0") != "0":
            # Of several processes that train together the first says what all have met, and ends the others.
            time.sleep(5)
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)
