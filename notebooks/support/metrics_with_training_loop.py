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
# # Metrics with TrainingLoop
#
# The loop passes every batch's outputs to the Metrics, which can be read at the end of each epoch and
# afterwards. The score of one epoch means little. The history shows whether the model still learns, or
# memorizes.

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
import warnings

import matplotlib.pyplot as plt
import pandas as pd
import torch

from hilum import Loaders, Metrics, TrainingLoop
from hilum.data.loaders import actual_labels
from hilum.metrics import UndefinedScoreWarning
from hilum.models import build_model
from hilum.sources import open_catalog
from hilum.training.losses import MaskedBCEWithLogitsLoss

warnings.simplefilter("ignore", UndefinedScoreWarning)
catalog = open_catalog("phantom", None, images=place.choose(2400, 160), size=64).select_targets("competition")
EPOCHS, SIZE = place.choose(6, 2), place.choose(64, 32)
loaders = Loaders(catalog, batch_size=32, image_width=SIZE, image_height=SIZE, num_workers=0, seed=0)
train_loader, val_loader = loaders.get_train_val_loaders()
metrics = Metrics(catalog.targets, actual_labels(train_loader), actual_labels(val_loader))
net = build_model("resnet_grayscale", len(catalog.targets), {}, mean=0.5, sd=0.25, seed=0)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
loop = TrainingLoop(place.device, net, optimizer, MaskedBCEWithLogitsLoss(), metrics)

# %% [markdown]
# ## During training
#
# `on_epoch_end` is called after both parts of an epoch are scored. In a notebook, `display_metrics`
# shows tables and curves below the cell. Each part can be switched off.


# %%
def show(epoch: int) -> None:
    """The validation scores of the five competition targets, without curves."""
    metrics.display_metrics(
        metric_data_source="val",
        show_combined_metrics=False,
        show_roc_curves=False,
        show_precision_recall_curves=False,
        epoch=epoch,
    )


loop.train(EPOCHS, train_loader, val_loader, on_epoch_end=show)

# %% [markdown]
# ## Afterwards

# %%
metrics.display_metrics(include_targets=["Pleural_Effusion", "Edema"])

# %%
metrics.display_epoch_progression(include_targets="competition")

# %% [markdown]
# ## Memorizing
#
# First compare the loss on the training images with the loss on the validation patients, whom the model
# has never seen. A growing gap means that the model memorizes.

# %%
loss = metrics.combined.pivot(index="epoch", columns="part", values="loss")  # noqa: PD010
axes = loss.plot(marker="o", title="Loss by epoch", xticks=loss.index)
axes.set(ylabel="binary cross-entropy")
plt.show()
assert list(loss.index) == list(range(1, EPOCHS + 1))
assert loss.notna().all(axis=None)
assert loss["train"].iloc[-1] < loss["train"].iloc[0]

# %% [markdown]
# ## The history is complete
#
# The history has the probability of each image in each epoch, so any score can be computed later. Here:
# the number of predictions that change between the first and the last epoch, at a threshold of 0.5.

# %%
first, last = metrics.val_prediction_hx[1], metrics.val_prediction_hx[EPOCHS]
flips = pd.DataFrame(
    {"to positive": ((first == 0) & (last == 1)).sum(), "to negative": ((first == 1) & (last == 0)).sum()}
)
print(flips.to_string())
assert set(metrics.val_probability_hx) == set(range(1, EPOCHS + 1))
assert len(last) == len(val_loader.dataset)
assert (flips["to positive"] - flips["to negative"]).equals(last.astype(int).sum() - first.astype(int).sum())

# Metrics can also be built from the tables of a run folder.
again = Metrics.from_predictions(
    {e: metrics.predictions(e) for e in metrics.epochs()}, combined=metrics.combined
)
pd.testing.assert_frame_equal(again.scores, metrics.scores)
