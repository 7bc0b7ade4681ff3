# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The early CNN: Kaggle's pneumonia radiographs
#
# The founding project started with children's chest radiographs, normal or pneumonia, and a small
# custom network, `custom_pneumonia`. The network is for understanding, not for good scores. The data
# set is Kermany's, in Kaggle's layout (`chest_xray/train/NORMAL/…`). If it is absent, synthetic
# radiographs in the same layout replace it.

# %% tags=["bootstrap"]
try:
    from hilum.notebook import bootstrap
except ModuleNotFoundError:  # Colab starts without Hilum: install the clone in your Drive
    import subprocess
    import sys

    from google.colab import drive

    drive.mount("/content/drive")
    clone = "/content/drive/MyDrive/hilum"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", clone], check=True)
    sys.path.insert(0, clone)  # this kernel started before the installation
    from hilum.notebook import bootstrap

place = bootstrap()
print(place)
# %%
import shutil
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from hilum import StandardTraining
from hilum.metrics import UndefinedScoreWarning
from hilum.models import build_model
from hilum.sources import open_catalog
from hilum.sources.images import read_gray

warnings.simplefilter("ignore", UndefinedScoreWarning)  # a small validation part may lack a class
temporary = tempfile.TemporaryDirectory()


def synthetic_data(folder: Path) -> Path:
    """Synthetic radiographs in Kaggle's layout: consolidations as pneumonia, clear lungs as normal."""
    phantom = open_catalog("phantom", None, images=place.choose(2400, 190), size=place.choose(128, 64))
    table = phantom.table
    sick = table[(table["Consolidation"] == 1) | (table["Pneumonia"] == 1)].index
    clear = table[table[list(phantom.targets)].sum(axis=1) == 0].index
    for kind, ids in (("PNEUMONIA", sick), ("NORMAL", clear)):
        for number, image_id in enumerate(ids, 1):
            part = ("train", "train", "train", "test")[number % 4] if number > 2 else "val"
            name = (
                f"person{number}_bacteria_{number}.jpeg"
                if kind == "PNEUMONIA"
                else f"IM-{number:04d}-0001.jpeg"
            )
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(phantom.image_path(image_id), folder / part / kind / name)
    return folder


root = place.folder("kaggle") or synthetic_data(Path(temporary.name) / "chest_xray")
catalog = open_catalog("kaggle", root)
print(f"{len(catalog):,} images, {catalog.table['Pneumonia'].mean():.0%} of them pneumonia")
print(catalog.fixed_split.value_counts().to_string())

# %% [markdown]
# ## Two traps in this data set
#
# Its validation folder has only 16 images, too few to choose between two models. So these images join
# the training part, and a validation part is split off by patient (the patient is in the file's name).
# The test folder numbers its patients from 1 again: its `person1` is a different patient.

# %%
assert set(catalog.fixed_split) == {"train_val", "test"}
test = catalog.fixed_split == "test"
assert catalog.table.loc[test, "PatientID"].str.startswith("test-").all()
assert not set(catalog.table.loc[test, "PatientID"]) & set(catalog.table.loc[~test, "PatientID"])

figure, axes = plt.subplots(1, 6, figsize=(10, 2.4))
for axis, (kind, image) in zip(axes, [(kind, number) for number in range(3) for kind in (0, 1)], strict=True):
    chosen = catalog.table[catalog.table["Pneumonia"] == kind].index[image]
    axis.imshow(read_gray(catalog.image_path(chosen)))
    axis.set_title(("normal", "pneumonia")[kind], fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## The number of parameters
#
# The network has blocks of convolution, ReLU and pooling, then two fully connected layers. A 3 x 3
# convolution from $c$ to $C$ channels has $C\,(9 c + 1)$ parameters, a fully connected layer from $n$
# to $m$ features has $m\,(n + 1)$. Every block halves the image. The output of the last block is
# flattened.

# %%
SIDE, CHANNELS, HIDDEN = place.choose(160, 64), (16, 32, 64, 128, 128), 128
net = build_model("custom_pneumonia", 1, {}, mean=0.5, sd=0.25, seed=0, image_size=(SIDE, SIDE))
expected = sum(outputs * (9 * inputs + 1) for inputs, outputs in zip((1, *CHANNELS), CHANNELS, strict=False))
flat = CHANNELS[-1] * (SIDE // 2 ** len(CHANNELS)) ** 2
expected += HIDDEN * (flat + 1) + 1 * (HIDDEN + 1)
counted = sum(weight.numel() for weight in net.parameters())
print(f"{counted:,} parameters; {HIDDEN * (flat + 1):,} of them in the first fully connected layer")
assert counted == expected
with torch.no_grad():
    assert net(torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8)).shape == (2, 1)

# %% [markdown]
# ## Training

# %%
training = StandardTraining(
    source="kaggle",
    root=root,
    net_name="custom_pneumonia",
    image_width=SIDE,
    image_height=SIDE,
    num_epochs=place.choose(8, 2),
    batch_size=32,
    learning_rate=1e-3,
    device=place.device,
    num_workers=place.choose(None, 0),
    save_path=Path(temporary.name) / "runs",
    epoch_args="none",
    quiet=True,
)
metrics = training.train()

# %%
metrics.display_metrics(metric_data_source="val")

# %% [markdown]
# ## The operating point
#
# The run freezes an operating point on validation (here: the highest threshold with a recall of at
# least 90 %) and records its precision. The test folder shows whether it works for other children:
# `hilum evaluate RUN --split test`.

# %%
point = training.folder.record["operating_points"]["Pneumonia"]
print(f"threshold {point['threshold']:.3f}: recall {point['recall']:.2f}, precision {point['precision']:.2f}")
assert point["recall"] >= 0.9
assert training.folder.record["status"] == "finished"
temporary.cleanup()
