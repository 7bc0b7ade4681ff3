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
# SMOTE and similar methods interpolate new samples between neighbours. This does not work for two
# radiographs: the useful features are in the convolutions, which are not trained yet. What is available
# is the *target vector*, the set of all findings of an image. Oversampling repeats images with a rare
# vector until each vector occurs `observation_min_count` times.

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
assert (rows[: len(labels)] == np.arange(len(labels))).all(), "every image once, then the repetitions"

figure, axes = plt.subplots()
for column, name in (("frequency", "as they are"), ("frequency_after", f"each at least {MIN} times")):
    axes.plot(np.sort(vectors[column])[::-1], drawstyle="steps-mid", label=name)
axes.set(title="Images of each target vector", xlabel="rank", ylabel="images", yscale="log")
axes.legend()
plt.show()

# %% [markdown]
# ## Effect on the findings
#
# Rare vectors mostly have *several* findings, so nearly every finding becomes more common, and the
# number of findings per image increases. The training distribution then differs from the test
# distribution, and the predicted probabilities are too high. At a fixed threshold of 0.5, recall rises
# and precision falls, although the model does not discriminate better. So compare models at thresholds
# chosen on validation, not at 0.5.

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
# ## Oversample only after the split
#
# If oversampling happens before the split, copies of training images can be in the validation part.
# This cell counts them. Hilum splits first and oversamples only the training part, so this cannot
# happen.

# %%
draw = np.random.default_rng(0)
in_validation = draw.random(len(rows)) < 0.2
leaked = np.intersect1d(rows[in_validation], rows[~in_validation])
share = np.isin(rows[in_validation], leaked).mean()
print(f"oversampled first, then split by row: {share:.0%} of the validation rows are also training rows")
assert len(leaked)

validation = draw.random(len(labels)) < 0.2
train_rows = np.flatnonzero(~validation)[oversample(labels[~validation], MIN, seed=0)]
assert not np.isin(train_rows, np.flatnonzero(validation)).any()

# %% [markdown]
# ## Rows or weights
#
# `sampling="weights"` draws an epoch of the usual length, with probabilities that give the same
# prevalences on average. The epoch takes no longer, and different images are repeated in each epoch.

# %%
weights = oversampling_weights(labels, MIN)
assert np.isclose(weights.sum(), len(rows))
by_weights = (labels * weights[:, None]).sum(axis=0) / weights.sum()
difference = np.abs(by_weights - labels[rows].mean(axis=0)).max()
print(f"largest difference between the expected prevalences: {difference:.3f}")
assert difference < 0.02
