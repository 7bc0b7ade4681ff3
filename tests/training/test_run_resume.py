"""A stopped run continues to the digest of an uninterrupted one; a change that would alter it is an error."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.training.run import StandardTraining

pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")

EPOCHS = 4


@pytest.fixture
def stopped(own_catalog, make_tiny_net, tmp_path, without_pictures):
    """Trains until after an epoch, as if the machine had then stopped; gives the folder."""

    def stop(after: int, name: str = "stopped", **changes) -> RunFolder:
        training = StandardTraining(**settings(own_catalog, tmp_path, name) | changes, net=make_tiny_net())
        training.train(last_epoch=after)
        return training.folder

    return stop


def settings(catalog, tmp_path, name: str) -> dict:
    return {
        "catalog": catalog,
        "image_width": 16,
        "image_height": 16,
        "batch_size": 8,
        "num_epochs": EPOCHS,
        "learning_rate": 0.01,
        "aug_fraction": 0.5,
        "num_workers": 0,
        "device": "cpu",
        "quiet": True,
        "save_path": tmp_path / "runs",
        "name": name,
    }


@pytest.fixture
def whole(own_catalog, make_tiny_net, tmp_path, without_pictures) -> RunFolder:
    """The run that was never stopped."""
    training = StandardTraining(**settings(own_catalog, tmp_path, "whole"), net=make_tiny_net())
    training.train()
    return training.folder


def resumed(folder: RunFolder, catalog, net, **changes) -> RunFolder:
    training = StandardTraining.resume(folder.path, net=net, catalog=catalog, **changes)
    training.train()
    return RunFolder(folder.path)


def assert_same_end(folder: RunFolder, whole: RunFolder) -> None:
    assert folder.record["digest"] == whole.record["digest"]
    assert folder.record["status"] == "finished"
    for name in ("best_epoch", "best_roc_auc", "epochs_done", "operating_points"):
        assert folder.record[name] == whole.record[name], name
    for table in ("scores", "combined"):
        left, right = getattr(folder, table)(), getattr(whole, table)()
        assert left.equals(right)
    for which in ("last", "best"):
        files = [run.path / "checkpoints" / which / "model.safetensors" for run in (folder, whole)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert not (folder.path / "checkpoints" / "previous").exists()
    assert not (folder.path / ".lock").exists()


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_stopped_after_an_epoch_ends_as_one_that_was_not(
    stopped, whole, own_catalog, make_tiny_net, after
):
    folder = stopped(after)
    assert folder.record["epochs_done"] == after
    assert_same_end(resumed(folder, own_catalog, make_tiny_net()), whole)


def test_a_run_stopped_between_its_files_ends_the_same(stopped, whole, own_catalog, make_tiny_net):
    """The predictions of an epoch are there, its checkpoint is not; run.json is an epoch behind."""
    folder = stopped(2)
    further = stopped(3, name="further")
    shutil.copy(further.path / "predictions" / "epoch-0003.parquet", folder.path / "predictions")
    shutil.copy(further.path / "scores.parquet", folder.path)
    folder.update(epochs_done=1, best_epoch=1)
    shutil.rmtree(folder.path / "checkpoints" / "best")
    assert_same_end(resumed(folder, own_catalog, make_tiny_net()), whole)


def test_a_truncated_checkpoint_gives_a_warning_and_the_one_before_it_is_used(
    stopped, whole, own_catalog, make_tiny_net, capsys
):
    folder = stopped(3)
    weights = folder.path / "checkpoints" / "last" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    assert_same_end(resumed(folder, own_catalog, make_tiny_net()), whole)
    told = capsys.readouterr().out
    assert f"{weights}: the checkpoint is damaged" in told
    assert "The one before it is used" in told
    assert "The run continues after epoch 2 of 4 epochs" in told


def test_without_any_undamaged_checkpoint_there_is_an_error_and_nothing_is_lost(
    stopped, own_catalog, make_tiny_net
):
    folder = stopped(2)
    for which in ("last", "previous"):
        (folder.path / "checkpoints" / which / "state.pt").write_bytes(b"cut")
    with pytest.raises(HilumError, match="No checkpoint of the run can be used"):
        resumed(folder, own_catalog, make_tiny_net())
    assert RunFolder(folder.path).epochs() == [1, 2]


def test_a_run_stopped_in_its_first_epoch_starts_again_in_its_folder(
    whole, own_catalog, make_tiny_net, tmp_path, without_pictures
):
    class Stops(type(make_tiny_net())):
        def forward(self, images):
            raise KeyboardInterrupt

    training = StandardTraining(**settings(own_catalog, tmp_path, "early"), net=Stops())
    with pytest.raises(KeyboardInterrupt):
        training.train()
    folder = RunFolder(tmp_path / "runs" / "early")
    assert folder.record["failure"] == "interrupted"
    folder.update(own_net=whole.record["own_net"])
    assert_same_end(resumed(folder, own_catalog, make_tiny_net()), whole)
    assert RunFolder(folder.path).record["failure"] is None


def test_an_interruption_prints_how_to_continue(
    own_catalog, make_tiny_net, tmp_path, without_pictures, capsys
):
    class Stops(type(make_tiny_net())):
        def forward(self, images):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StandardTraining(**settings(own_catalog, tmp_path, "early"), net=Stops()).train()
    assert f"Continue with: hilum resume {tmp_path / 'runs' / 'early'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.1}, r"learning_rate: the run started with 0\.01, not 0\.1"),
        ({"num_epochs": 9}, "num_epochs: the run started with 4, not 9"),
        ({"seed": 3}, "seed: the run started with 0, not 3"),
    ],
)
def test_a_setting_that_would_change_is_refused_by_name(stopped, own_catalog, make_tiny_net, changes, words):
    folder = stopped(1)
    with pytest.raises(HilumError, match=words):
        StandardTraining.resume(folder.path, net=make_tiny_net(), catalog=own_catalog, **changes)


def test_how_images_are_fed_and_what_is_shown_may_change(stopped, whole, own_catalog, make_tiny_net):
    folder = stopped(2)
    again = {"num_workers": 1, "epoch_args": "none", "learning_rate": 0.01}
    assert_same_end(resumed(folder, own_catalog, make_tiny_net(), **again), whole)


def test_other_data_a_finished_run_and_a_missing_net_are_refused(stopped, whole, own_catalog, make_tiny_net):
    with pytest.raises(HilumError, match="the run has finished; there is nothing to resume"):
        StandardTraining.resume(whole.path, net=make_tiny_net(), catalog=own_catalog)
    folder = stopped(1)
    with pytest.raises(HilumError, match=r"with a network of your own\. Resume it from Python, with net="):
        StandardTraining.resume(folder.path, catalog=own_catalog)
    with pytest.raises(
        HilumError, match=r"with a catalog of your own\. Resume it from Python, with catalog="
    ):
        StandardTraining.resume(folder.path, net=make_tiny_net())
    fewer = own_catalog.select_images(own_catalog.table.index[:40])
    with pytest.raises(HilumError, match="The catalog differs from that of the run"):
        resumed(folder, fewer, make_tiny_net())
    assert RunFolder(folder.path).record["epochs_done"] == 1


def test_a_run_that_is_being_trained_is_refused(stopped, own_catalog, make_tiny_net):
    folder = stopped(1)
    with (
        FileLock(folder.path / ".lock"),
        pytest.raises(HilumError, match="another process is training this run"),
    ):
        resumed(folder, own_catalog, make_tiny_net())


@pytest.mark.slow
def test_a_kill_in_the_middle_of_an_epoch_changes_nothing(tmp_path):
    from hilum.phantom import write_phantom

    write_phantom(tmp_path / "data", images=100, size=32, seed=0)
    arguments = ["train", "--root", str(tmp_path / "data"), "--image-width", "32", "--image-height", "32"]
    arguments += [
        "--num-epochs",
        "3",
        "--batch-size",
        "8",
        "--num-workers",
        "0",
        "--quiet",
        "--epoch-args",
        "none",
    ]
    arguments += ["--target-columns", "Edema,Pleural_Effusion"]  # fewer panels to draw at the end
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "hilum", *words]

    save_path = tmp_path / "runs"
    process = subprocess.Popen(
        command(*arguments, "--save-path", str(save_path), "--name", "killed"),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first_epoch = save_path / "killed" / "checkpoints" / "best" / "state.pt"
    while process.poll() is None and not first_epoch.exists():
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = RunFolder(save_path / "killed")
    assert killed.record["status"] == "running"
    done = subprocess.run(
        command("resume", str(killed.path)), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        command("verify", str(killed.path)), env=environment, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "The same, bit for bit, in 3 epoch(s)" in checked.stdout
    assert RunFolder(killed.path).record["digest"][:16] in checked.stdout
    assert RunFolder(killed.path).epochs() == [1, 2, 3]
