"""A missing device is an error; several devices train and validate as one does."""

import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.training.distributed import choose_device, choose_precision, make_fabric, train_on_devices
from hilum.training.evaluation import evaluate
from hilum.training.run import StandardTraining

pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")


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
        ("gpu", "'gpu' is not a device. Use auto, cpu, cuda"),
        ("mps", "'mps' is not supported"),
        ("", "'' is not a device"),
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


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_takes_bf16_on_gpus_that_have_it(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) == precision


@pytest.mark.parametrize(("native", "precision"), [(False, "32"), (True, "bf16")])
def test_auto_takes_bf16_on_a_cpu_only_where_it_has_units_for_it(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: native)
    assert choose_precision("auto", torch.device("cpu")) == precision
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"
    with pytest.raises(HilumError, match="precision: 16 needs a GPU"):
        choose_precision("16", torch.device("cpu"))


def test_nothing_is_printed_about_the_precision(capfd):
    make_fabric(torch.device("cpu"), "bf16")
    assert capfd.readouterr().err == ""


def test_more_processes_than_gpus_are_refused_before_one_starts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(HilumError, match=r"devices: 2 are needed and this machine has 1 CUDA"):
        train_on_devices(["train"], 2, torch.device("cuda"))


SCRIPT = """
import sys
import torch
from torch import nn
from hilum import StandardTraining

class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.linear = nn.Linear(16, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images):
        return self.linear(self.pool(images).flatten(1))

def train(root, runs, name):
    training = StandardTraining(
        net=Linear(), source="phantom", root=root, save_path=runs, name=name, device="cpu", num_workers=0,
        image_width=16, image_height=16, batch_size=8, num_epochs=2, learning_rate=0.02, quiet=True,
        target_columns="Edema,Pleural_Effusion", observation_min_count=25, accumulate_batches=2,
        epoch_args="none", optimizer="sgd", precision="32",
    )
    training.train(conclude=False)

if __name__ == "__main__":
    train(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A small tree of radiographs."""
    from hilum.phantom import write_phantom

    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, images=60, size=32, seed=1)
    return root


@pytest.fixture
def one_thread(monkeypatch):
    """Here and in child processes: the number of threads decides the last bits of sums."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_learn_what_one_learns_from_the_same_images_in_the_same_order(phantom, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    runs = tmp_path / "runs"
    runpy.run_path(str(script))["train"](phantom, runs, "alone")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(script), str(phantom), str(runs), "together"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run together:") == 1  # one of the two speaks
    one, two = RunFolder(runs / "alone"), RunFolder(runs / "together")
    assert two.record["device"]["devices"] == 2
    for epoch in (1, 2):
        alone, together = one.predictions(epoch), two.predictions(epoch)
        assert alone[["part", "ImageID", "draw"]].equals(together[["part", "ImageID", "draw"]])
        assert alone["draw"].max() > 0  # oversampling repeats images
        columns = [name for name in alone if name.startswith("prob_")]
        # Gradients are sums in another order; the learning is the same.
        np.testing.assert_allclose(alone[columns], together[columns], atol=1e-5)
    np.testing.assert_allclose(one.combined()["loss"], two.combined()["loss"], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_devices_are_judged_as_one_device_judges_the_same_weights(phantom, tmp_path):
    training = StandardTraining(
        **{"root": phantom, "save_path": tmp_path / "runs", "device": "cpu", "devices": 2},
        **{"net_name": "custom_pneumonia", "net_kwargs": {"channels": [4, 8]}, "num_workers": 0},
        **{"image_width": 32, "image_height": 32, "batch_size": 6, "num_epochs": 1, "quiet": True},
        **{"epoch_args": "none", "target_columns": "Edema,Pleural_Effusion"},
    )
    metrics = training.train()
    record = training.folder.record
    assert (record["status"], record["device"]["devices"]) == ("finished", 2)
    trained = metrics.df_val_probability
    found = evaluate(training.folder, part="val", num_workers=0)
    alone = pd.read_parquet(found.folder / "predictions.parquet").set_index("ImageID")
    assert len(alone) == len(trained)
    for target in ("Edema", "Pleural_Effusion"):
        assert alone.loc[trained.index, f"prob_{target}"].tolist() == trained[target].tolist()
