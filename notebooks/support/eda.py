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
# # EDA: what the data set holds, and what it hides
#
# Before training, look at how common each finding is, which findings occur together, and what predicts
# a finding *without the lungs*. `hilum eda` shows all of it on one page. This notebook shows it step by
# step.

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
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from hilum.config import SplitSettings
from hilum.data.split import check_balance, make_split
from hilum.metrics.label_statistics import (
    co_occurrence,
    findings_per_image,
    metadata_leaks,
    prevalence,
    target_vectors,
)
from hilum.sources import open_catalog

root = place.folder("chexpert")
if root:
    catalog = open_catalog("chexpert", root)
else:
    catalog = open_catalog("phantom", None, images=place.choose(2400, 190), size=64)
labels = catalog.labels()
print(f"{catalog.name}: {len(catalog):,} images of {catalog.table['PatientID'].nunique():,} patients")

# %% [markdown]
# ## Imbalance
#
# Most findings are in less than 15 % of the images. A model that predicts all of them negative is right
# most of the time, so accuracy is not a useful score.

# %%
shares = prevalence(labels, catalog.targets)["prevalence"].sort_values()
figure, axes = plt.subplots(figsize=(8, 3.8))
bars = axes.barh([name.replace("_", " ") for name in shares.index], 100 * shares)
axes.bar_label(bars, fmt=" %.1f")
axes.set(title="Positive images, per cent")
axes.grid(visible=False, axis="y")
plt.show()
assert np.allclose(shares, catalog.table[list(shares.index)].mean())

# %% [markdown]
# ## Several findings at once
#
# The number of findings per image, and which findings occur together. Phi is the correlation of two
# findings; 0 means independent.

# %%
counts = findings_per_image(labels)
figure, axes = plt.subplots()
axes.bar(counts.index, counts)
axes.set(title="Findings per image", xlabel="positive findings", ylabel="images")
plt.show()
assert counts.sum() == len(catalog)
assert (counts.index * counts).sum() == labels.sum()

pairs = co_occurrence(labels, catalog.table["PatientID"].to_numpy(), catalog.targets, seed=0, replicates=200)
pairs.sort_values("phi", ascending=False).head(6).round(2)

# %% [markdown]
# ## Target vectors
#
# Images with the same findings form a group. A few groups are large, and a long tail of groups has one
# image each. Oversampling works on these groups.

# %%
vectors = target_vectors(labels)
figure, axes = plt.subplots()
axes.plot(np.arange(1, len(vectors) + 1), vectors["frequency"], drawstyle="steps-mid")
axes.set(title=f"{len(vectors)} distinct target vectors", xlabel="rank", ylabel="images", yscale="log")
plt.show()
distinct = len(np.unique(labels, axis=0))
assert len(vectors) == distinct
assert vectors["frequency"].sum() == len(catalog)
if len(catalog) == 131_748:
    assert distinct == 802
    assert vectors["frequency"].iloc[0] == 25_805

# %% [markdown]
# ## Intrinsic leaks
#
# Very ill patients are imaged in bed (AP), with wires and tubes. A network can learn the bed and the
# wires instead of the lungs. So measure how well view, devices, age and sex *alone* predict each
# finding, on held-out patients. A ROC AUC well above 0.5 shows how much a model can score without the
# lungs.

# %%
leaks = metadata_leaks(catalog, seed=0, replicates=place.choose(200, 50))
print(leaks.sort_values("auc", ascending=False).round(3).head(8).to_string(index=False))

# %%
devices = catalog.table.groupby("Support Devices")[list(catalog.targets)].mean().T
devices.columns = ["without devices", "with devices"]
figure, axes = plt.subplots(figsize=(8, 3.8))
order = devices.sum(axis=1).sort_values().index
axes.barh(np.arange(12) + 0.2, 100 * devices.loc[order, "with devices"], height=0.4, label="with devices")
axes.barh(np.arange(12) - 0.2, 100 * devices.loc[order, "without devices"], height=0.4, label="without")
axes.set_yticks(np.arange(12), [name.replace("_", " ") for name in order])
axes.set(title="Positive images, per cent")
axes.legend(loc="lower right")
axes.grid(visible=False, axis="y")
plt.show()

# %% [markdown]
# ## Balance between train and val, and how it depends on the number of images
#
# In a random split of few images, the parts differ by chance. The warning (more than 2 percentage
# points) becomes rarer with more images. This is arithmetic, not a sign of quality.

# %%
sizes = place.choose((200, 500, 1000, 0), (60, 0))
warned = {}
for count in sizes:
    number = min(count, len(catalog)) or len(catalog)
    splits = [make_split(catalog, SplitSettings(number_images=count), seed=seed) for seed in range(8)]
    warned[number] = float(np.mean([len(check_balance(catalog, split, 0.02)) for split in splits]))
print(pd.Series(warned, name="features that differ").round(1).to_string())
assert warned[min(warned)] > warned[max(warned)]
