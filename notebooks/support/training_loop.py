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
# # TrainingLoop
#
# `TrainingLoop(device, net, optimizer, criterion, metrics).train(num_epochs, train_loader, val_loader)`
# is the loop alone. To show what it does, the same training is also written as a plain loop. Both must
# end with the same weights, bit for bit.

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
import copy
import warnings

import matplotlib.pyplot as plt
import torch
from torch import nn

from hilum import Loaders, Metrics, TrainingLoop
from hilum.data.loaders import actual_labels
from hilum.metrics import UndefinedScoreWarning
from hilum.models import build_model
from hilum.sources import open_catalog
from hilum.training.losses import MaskedBCEWithLogitsLoss

catalog = open_catalog("phantom", None, images=place.choose(2400, 160), size=64).select_targets("competition")
EPOCHS, SIZE = place.choose(4, 2), place.choose(64, 32)


def new_loaders():
    """New loaders with the same order and the same augmentation each time."""
    loaders = Loaders(catalog, batch_size=32, image_width=SIZE, image_height=SIZE, num_workers=0, seed=0)
    return loaders.get_train_val_loaders()


def new_net() -> nn.Module:
    """A ResNet-18 with the initial weights of seed 0."""
    return build_model("resnet_grayscale", len(catalog.targets), {}, mean=0.5, sd=0.25, seed=0)


# %% [markdown]
# ## With TrainingLoop

# %%
train_loader, val_loader = new_loaders()
net = new_net()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
metrics = Metrics(catalog.targets, actual_labels(train_loader), actual_labels(val_loader))
loop = TrainingLoop(place.device, net, optimizer, MaskedBCEWithLogitsLoss(), metrics)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UndefinedScoreWarning)  # a small validation part may lack a finding
    loop.train(EPOCHS, train_loader, val_loader, on_epoch_end=lambda epoch: print(f"epoch {epoch} ended"))

# %% [markdown]
# ## The same as a plain loop
#
# Five lines do the work: reset the gradients, forward, loss, backward, step. The rest moves data to the
# device and records results. `train()` and `eval()` matter: batch normalization uses the batch's own
# statistics in training and the running statistics in evaluation. `no_grad` saves memory in validation,
# because no backward pass follows.

# %%
train_loader, val_loader = new_loaders()
plain_net = new_net().to(place.device)
optimizer = torch.optim.Adam(plain_net.parameters(), lr=1e-3)
criterion = MaskedBCEWithLogitsLoss()  # torch's loss, without the labels that are NaN
losses = {"train": [], "val": []}
for epoch in range(1, EPOCHS + 1):
    train_loader.batch_sampler.set_epoch(epoch)
    plain_net.train()
    total = 0.0
    for batch in train_loader:
        images, labels = batch["img"].to(place.device), batch["labels"].to(place.device)
        optimizer.zero_grad()
        outputs = plain_net(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    losses["train"].append(total / len(train_loader.dataset))

    plain_net.eval()
    total = 0.0
    with torch.no_grad():
        for batch in val_loader:
            outputs = plain_net(batch["img"].to(place.device))
            total += criterion(outputs, batch["labels"].to(place.device)).item() * len(outputs)
    losses["val"].append(total / len(val_loader.dataset))

# %%
loop_weights, plain_weights = dict(net.state_dict()), dict(plain_net.state_dict())
same = torch.equal if place.device == "cpu" else torch.allclose
different = [name for name in loop_weights if not same(loop_weights[name].cpu(), plain_weights[name].cpu())]
print(f"{len(loop_weights)} tensors of weights and statistics, {len(different)} differ")
assert not different
recorded = metrics.combined.set_index(["part", "epoch"])["loss"]
for part, values in losses.items():
    for epoch, value in enumerate(values, 1):
        assert abs(recorded[part, epoch] - value) < 1e-5

# %%
figure, axes = plt.subplots()
for part, values in losses.items():
    axes.plot(range(1, EPOCHS + 1), values, "o-", label=part)
axes.set(
    title="Mean loss per image", xlabel="epoch", ylabel="binary cross-entropy", xticks=range(1, EPOCHS + 1)
)
axes.legend()
plt.show()

# %% [markdown]
# ## What only TrainingLoop does
#
# TrainingLoop derives dropout from (seed, epoch), reads losses once per epoch instead of once per batch
# (each read makes a GPU wait), and stops at a loss that is not finite, with the ids of the batch. A
# copy of the network whose first weights are NaN shows this:

# %%
from hilum import HilumError

broken = copy.deepcopy(plain_net)
with torch.no_grad():
    next(broken.parameters()).fill_(float("nan"))
train_loader, val_loader = new_loaders()
metrics = Metrics(catalog.targets, actual_labels(train_loader), actual_labels(val_loader))
loop = TrainingLoop(
    place.device, broken, torch.optim.Adam(broken.parameters()), MaskedBCEWithLogitsLoss(), metrics
)
message = ""
try:
    loop.train(1, train_loader, val_loader)
except HilumError as error:
    message = str(error)
print(message[:120], "…")
assert message
