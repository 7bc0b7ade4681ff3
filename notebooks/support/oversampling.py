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
# # Oversampling
#
# SMOTE and its kin make new samples between neighbours. Between two radiographs there is no such thing: the
# features are in the convolutions, which are not trained yet. What we do have is the *target vector*, the
# whole set of findings of an image. Images with a rare vector are drawn again until each vector occurs
# `observation_min_count` times.

# %% tags=["bootstrap"]
try:
    from hilum.notebook import bootstrap
except ModuleNotFoundError:  # Colab begins without Hilum: take it from the clone in your Drive
    import subprocess
    import sys

    from google.colab import drive

    drive.mount("/content/drive")
    clone = "/content/drive/MyDrive/hilum"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", clone], check=True)
    sys.path.insert(0, clone)  # this kernel began before the installation
    from hilum.notebook import bootstrap

place = bootstrap()
print(place)
# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from hilum.data.oversampling import oversample, oversampling_weights
from hilum.metrics.label_statistics import prevalence, target_vectors
from hilum.sources import open_catalog

root = place.folder("chexpert")
if root:
    catalog = open_catalog("chexpert", root)
else:
    catalog = open_catalog("phantom", None, images=place.choose(2400, 190), size=64)
labels, MIN = catalog.labels(), place.choose(150 if root else 25, 10)

# %% [markdown]
# ## The long tail

# %%
rows = oversample(labels, MIN, seed=0)
vectors = target_vectors(labels, observation_min_count=MIN)
print(vectors.head(3).round(1).to_string())
print(f"{len(labels):,} images, {len(vectors)} target vectors, the rarest with {vectors['frequency'].min()}")
print(f"{len(rows):,} rows after oversampling to at least {MIN}")
assert vectors["frequency_after"].min() == MIN
assert vectors["frequency_after"].sum() == len(rows)
assert (rows[: len(labels)] == np.arange(len(labels))).all(), "every image once, then the repeats"

figure, axes = plt.subplots()
for column, name in (("frequency", "as they are"), ("frequency_after", f"each at least {MIN} times")):
    axes.plot(np.sort(vectors[column])[::-1], drawstyle="steps-mid", label=name)
axes.set(title="Images of each target vector", xlabel="rank", ylabel="images", yscale="log")
axes.legend()
plt.show()

# %% [markdown]
# ## What it does to the findings
#
# Rare vectors are mostly vectors of *several* findings, so nearly every finding becomes more common, and
# the labels per image go up. The network is shown another world than the one it will be tested in: its
# probabilities will be too high. At a fixed threshold of 0.5 recall rises and precision falls, without the
# model having learnt anything. Compare thresholds that were chosen on validation, not recall at 0.5.

# %%
shares = pd.DataFrame(
    {
        name: prevalence(values, catalog.targets)["prevalence"]
        for name, values in (("before", labels), ("after", labels[rows]))
    }
)
print((100 * shares).round(1).to_string())
figure, axes = plt.subplots(figsize=(8, 3.8))
order = shares["before"].sort_values().index
axes.barh(np.arange(len(order)) + 0.2, 100 * shares.loc[order, "after"], height=0.4, label="after")
axes.barh(np.arange(len(order)) - 0.2, 100 * shares.loc[order, "before"], height=0.4, label="before")
axes.set_yticks(np.arange(len(order)), [name.replace("_", " ") for name in order])
axes.set(title="Positive rows, per cent")
axes.legend(loc="lower right")
axes.grid(visible=False, axis="y")
plt.show()
assert labels[rows].mean() > labels.mean()

# %% [markdown]
# ## Only after the split
#
# Drawn before the split, a copy of a training image may fall into validation. Here is how many would. Hilum
# splits first and oversamples the training part alone, so the question does not arise.

# %%
draw = np.random.default_rng(0)
in_validation = draw.random(len(rows)) < 0.2
leaked = np.intersect1d(rows[in_validation], rows[~in_validation])
share = np.isin(rows[in_validation], leaked).mean()
print(f"oversampled first, then split by row: {share:.0%} of the validation rows are also trained on")
assert len(leaked)

validation = draw.random(len(labels)) < 0.2
train_rows = np.flatnonzero(~validation)[oversample(labels[~validation], MIN, seed=0)]
assert not np.isin(train_rows, np.flatnonzero(validation)).any()

# %% [markdown]
# ## Rows or weights
#
# `sampling="weights"` draws an epoch of the usual length with chances that give the same shares on average.
# The epoch costs no more, and different images are repeated each time.

# %%
weights = oversampling_weights(labels, MIN)
assert np.isclose(weights.sum(), len(rows))
by_weights = (labels * weights[:, None]).sum(axis=0) / weights.sum()
difference = np.abs(by_weights - labels[rows].mean(axis=0)).max()
print(f"largest difference between the two ways' expected shares: {difference:.3f}")
assert difference < 0.02
