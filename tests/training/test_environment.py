"""The machine and the code of a run are told; a device that is not there is refused."""

import json
import subprocess

import pytest
import torch

from hilum.errors import HilumError
from hilum.training.environment import choose_device, describe_environment, git_commit


def git(folder, *arguments):
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_the_environment_has_versions_and_machine_as_json():
    record = describe_environment(torch.device("cpu"))
    assert json.loads(json.dumps(record)) == record
    assert record["versions"]["torch"] == torch.__version__
    assert {"python", "hilum", "numpy", "pandas", "torchvision"} < set(record["versions"])
    assert record["device"]["type"] == "cpu"
    assert record["device"]["threads"] == torch.get_num_threads()
    assert record["device"]["name"]


def test_the_commit_is_told_and_whether_files_differ_from_it(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "untracked.txt").write_text("a note\n")
    assert git_commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("a = 2\n")
    assert git_commit(tmp_path) == f"{clean}+changes"


def test_outside_a_repository_or_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_a_gpu_is_chosen_by_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(HilumError, match=r"there is no cuda:2 here; this machine has 2 CUDA device\(s\)"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "'gpu' is no device. Use auto, cpu, cuda"),
        ("mps", "'mps' is not supported"),
        ("", "'' is no device"),
    ],
)
def test_a_device_that_is_none_is_refused(name, words):
    with pytest.raises(HilumError, match=words):
        choose_device(name)


def test_a_machine_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        HilumError, match=r"there is no cuda here; this machine has 0 CUDA device\(s\). Use auto"
    ):
        choose_device("cuda")
