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
# # CheXpertData: cleaning, dataset, loaders
#
# From CheXpert's index to the batches that a network gets, one step at a time. If CheXpert is absent,
# the phantom's synthetic radiographs replace it. Their files have the same layout, including
# `train.csv`.

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

from hilum import CheXpertDataset, CleanMetaData, Loaders
from hilum.config import AugmentationSettings, SplitSettings
from hilum.data.augmentation import Augmentation
from hilum.data.split import check_balance, make_split
from hilum.sources import open_catalog

root = place.folder("chexpert")
if root is None:
    phantom = open_catalog("phantom", None, images=place.choose(2400, 160), size=place.choose(128, 64))
    root = phantom.root
metadata = CleanMetaData(root)
table = metadata.get_clean_df()
table.head()

# %% [markdown]
# ## Rows that cleaning leaves out
#
# Three filters keep frontal views, taken AP or PA, of a patient's first four studies. (The founding
# document names two filters, but its image count needs all three.) Each row of the raw index is either
# kept or left out for the first reason that applies.

# %%
raw = pd.read_csv(metadata.csv_path, dtype={"AP/PA": str})
study = raw["Path"].str.extract(r"/study(\d+)/", expand=False).astype(int)
reasons = pd.Series("kept", index=raw.index)
reasons[study > 4] = "fifth study or later"
reasons[~raw["AP/PA"].isin(["AP", "PA"])] = "neither AP nor PA"
reasons[raw["Frontal/Lateral"] != "Frontal"] = "not frontal"
print(reasons.value_counts().to_string())

assert (reasons == "kept").sum() == len(table)
assert table.index.equals(reasons.index[reasons == "kept"]), "ImageID is the row's position in the raw index"
if len(raw) == 223_414:  # the real data set
    assert len(table) == 131_748

# %% [markdown]
# ## Labels
#
# The index holds 1 (positive), 0 (negative), -1 (uncertain) or a blank. The table holds 1 for positive
# and 0 for everything else. This is a *label policy*; settings select other policies
# (`uncertain_policy`, `blank_policy`), so the catalog keeps the raw codes too.

# %%
catalog = metadata.catalog()
codes = catalog.codes.apply(lambda column: column.value_counts(dropna=False)).T.fillna(0).astype(int)
codes.columns = [
    {1.0: "positive", 0.0: "negative", -1.0: "uncertain"}.get(code, "blank") for code in codes.columns
]
print(codes.to_string())
assert (table[metadata.target_columns].to_numpy() == (catalog.codes == 1).to_numpy()).all()
assert codes.sum(axis=1).eq(len(table)).all()

# %% [markdown]
# ## Split
#
# The split assigns patients to the parts, not images. The heart, the ribs and the pacemaker of a
# patient are the same on every image, so a network that was trained on one of the images has memorized
# the answer for the others.

# %%
split = make_split(catalog, SplitSettings(), seed=0)
patients = split.table.groupby("part")["PatientID"].agg(set)
print(pd.DataFrame(split.counts()).T.to_string())
assert not patients["train"] & patients["val"]

# %% [markdown]
# Features are listed if their proportion differs by more than 2 percentage points between the parts.
# With few images, many features do:

# %%
check_balance(catalog, split, tolerance=0.02).head(8).round(3)

# %%
halves = {unit: make_split(catalog, SplitSettings(split_unit=unit), seed=0) for unit in ("patient", "image")}
shared = {
    unit: len(set.intersection(*half.table.groupby("part")["PatientID"].agg(set)))
    for unit, half in halves.items()
}
print(f"patients on both sides: {shared['patient']} by patient, {shared['image']} by image")
assert shared["patient"] == 0 < shared["image"]

# %% [markdown]
# ## Dataset
#
# An item is a dictionary of `id`, `img` and `labels`. Pixels stay 8-bit until they are on the device,
# which takes a quarter of the memory and of the copying. Augmentation is one affine warp and one lookup
# table. Its random values depend only on (seed, epoch, position), so the same address gives the same
# image in any process.

# %%
size = place.choose(320, 64)
strong = AugmentationSettings(
    aug_fraction=1,
    affine_degrees=15,
    translate_fraction=0.1,
    shear_degrees=10,
    brightness_jitter=0.3,
    contrast_jitter=0.3,
)
plain = CheXpertDataset(catalog, size, size)
changed = CheXpertDataset(catalog, size, size, augmentation=Augmentation(strong), seed=0)
item = plain[0]
print(item["id"], item["img"].shape, item["img"].dtype, item["labels"].tolist())
assert (changed[3]["img"] == changed[3]["img"]).all()
assert (changed[3]["img"] != plain[3]["img"]).any()

figure, axes = plt.subplots(2, 5, figsize=(10, 4.2))
for column in range(5):
    axes[0, column].imshow(plain[column]["img"][0].numpy(), vmin=0, vmax=255)
    axes[1, column].imshow(changed[column]["img"][0].numpy(), vmin=0, vmax=255)
for axis in axes.ravel():
    axis.axis("off")
figure.suptitle("Original, and augmented (more than by default)")
plt.show()

# %% [markdown]
# ## Loaders
#
# Two loaders: the training part is augmented, in a new order each epoch; the validation part is
# unchanged. The order also depends on (seed, epoch) only, so the number of worker processes affects
# nothing but the speed.


# %%
def first_epoch(workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mean gray levels of the images of one epoch, in order."""
    loaders = Loaders(
        catalog, batch_size=32, image_width=size, image_height=size, num_workers=workers, seed=5
    )
    train_loader, _ = loaders.get_train_val_loaders(number_images=100)
    batches = list(train_loader)
    grays = np.concatenate([batch["img"].float().mean(dim=(1, 2, 3)).numpy() for batch in batches])
    return np.concatenate([batch["id"].numpy() for batch in batches]), grays


alone, with_workers = first_epoch(0), first_epoch(2)
assert (alone[0] == with_workers[0]).all()
assert (alone[1] == with_workers[1]).all()
print(f"{len(alone[0])} images in the same order with the same pixels, with 0 and with 2 workers")
