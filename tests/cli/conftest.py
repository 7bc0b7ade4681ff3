import sys
import warnings
from types import SimpleNamespace

import pytest

from hilum import cli


@pytest.fixture
def hilum(monkeypatch, capsys):
    """Runs the command line in this process; gives its exit code and output."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which main sets

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hilum", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        result = capsys.readouterr()
        return SimpleNamespace(code=code, out=result.out, err=result.err)

    return run
