import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from hilum.cli.inference import serve as serve_command
from hilum.errors import HilumError
from hilum.service import server
from hilum.service.server import serve

WITHOUT_MODELS = """
import sys
from hilum import cli
from hilum.errors import HilumError
from hilum.service import server
from hilum.service.app import make_app

def refuse(path):
    raise HilumError("no checkpoint")

server._application = lambda path, of_runs, device, token, loopback: make_app(
    path, open_reader=refuse, token=token, loopback_only=loopback
)
sys.argv = ["hilum", "serve", sys.argv[1], "--port", "0"]
cli.main()
"""


@pytest.fixture
def run(runs_folder):
    return runs_folder / "first"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "reader.example"])
def test_a_host_that_other_machines_reach_needs_a_token(run, host, monkeypatch):
    monkeypatch.delenv("HILUM_TOKEN", raising=False)
    with pytest.raises(HilumError, match="a token is needed: set HILUM_TOKEN, or give --token"):
        serve(run, host=host)


def test_an_empty_token_is_an_error(run, monkeypatch):
    monkeypatch.setenv("HILUM_TOKEN", " ")
    with pytest.raises(HilumError, match="The token is empty"):
        serve(run, host="0.0.0.0")


def test_a_taken_port_is_an_error_before_a_model_is_opened(run, monkeypatch):
    monkeypatch.setattr(server, "_application", lambda *_: pytest.fail("the model was opened"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HilumError, match=f"port {port}: another program uses it"):
            serve(run, port=port)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(HilumError, match=r"run\.json.*bundle\.json.*\*/run\.json"):
        serve(tmp_path)
    with pytest.raises(HilumError, match="there is no such folder"):
        serve(tmp_path / "absent")


def test_an_unknown_host_is_an_error(run):
    with pytest.raises(HilumError, match=r"host no\.such\.host\.invalid: there is no such name"):
        serve(run, host="no.such.host.invalid", token="x" * 20)


def test_a_missing_extra_is_an_error(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(HilumError, match=r"Serving needs uvicorn: pip install 'hilum\[serve\]'"):
        serve(run)


def test_the_command_states_research_use_only():
    lines = CliRunner().invoke(serve_command, ["--help"]).output
    assert "Research use only" in lines
    assert "HILUM_TOKEN" in lines


def test_serve_prints_its_address_and_stops(runs_folder):
    """In another process, with runs that cannot be opened: it need not wait for torch."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_MODELS, str(runs_folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "HILUM_TOKEN": "a-long-token-1"},
    )
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        assert "Research use only" in lines[-1]
        assert "Ctrl-C stops it" in lines[-1]
        address = lines[0].split(" at ")[-1].strip()
        assert lines[1].strip() == f"The table of runs is at {address}runs"
        assert httpx.get(f"{address}healthz", timeout=30).json() == {"status": "ok"}
        assert httpx.get(f"{address}v1/model", timeout=30).status_code == 401
        headers = {"Authorization": "Bearer a-long-token-1"}
        assert httpx.get(f"{address}v1/runs", headers=headers, timeout=60).json()["best"] == "second"
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0, rest
    assert "Stopped." in rest
    assert "Traceback" not in rest
