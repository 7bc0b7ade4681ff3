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
# # Hierarchical paths
#
# Google Drive is not a file system: it resolves each name of a path over the web, and a folder of
# 200,000 names answers slowly or not at all. The founding project used folders with at most 50 entries.
# The path of an image follows from its number, so no search is needed.

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
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from hilum import Loaders
from hilum.data.folder_copy import build_hierarchy, open_hierarchy
from hilum.sources import open_catalog
from hilum.sources.catalog import hierarchical_paths

# %% [markdown]
# ## The ImageID in base 50
#
# The folders are the digits of the ImageID in base 50. The last digit is the position of the file in
# its folder.

# %%
for image_id in (0, 49, 50, 2500, 131_747, 223_413):
    print(f"{image_id:>7,}  {hierarchical_paths(np.array([image_id, 223_413]))[0]}")

path = hierarchical_paths(np.array([131_747]))[0]
digits = [int(part[1:]) for part in path.split("/")[1:-1]]
assert digits == [131_747 // 50**3, 131_747 // 50**2 % 50, 131_747 // 50 % 50]

# %% [markdown]
# ## How many levels?
#
# Two levels of folders with 50 files each hold 50 x 50 x 50 = 125,000 images. The founding project's
# cleaned data set has 131,748, so two levels with at most 50 entries are not enough. The number of
# levels follows from the largest id:

# %%
assert 50**3 < 131_748
for largest in (124_999, 125_000, 6_249_999, 6_250_000):
    path = hierarchical_paths(np.array([largest]))[0]
    print(f"largest id {largest:>9,}: {path.count('/d')} levels")
assert hierarchical_paths(np.array([124_999]))[0].count("/d") == 2
assert hierarchical_paths(np.array([125_000]))[0].count("/d") == 3

places = [Path(p) for p in hierarchical_paths(np.arange(131_748))]
entries: dict[Path, set[str]] = {}
for file in places:
    for child, folder in zip((file, *file.parents), file.parents, strict=False):
        entries.setdefault(folder, set()).add(child.name)
fullest = max(len(names) for names in entries.values())
print(f"131,748 files in {len(entries):,} folders, at most {fullest} entries in each")
assert fullest <= 50

# %% [markdown]
# ## What a look-up costs
#
# If a folder is searched entry by entry, finding one of n images in a single folder needs up to n
# comparisons. In the hierarchy it takes at most 50 per level.

# %%
counts = np.array([10**k for k in range(2, 8)])
levels = np.array([hierarchical_paths(np.array([n - 1]))[0].count("/d") + 1 for n in counts])
figure, axes = plt.subplots()
axes.plot(counts, counts, "o-", label="one folder")
axes.plot(counts, 50 * levels, "o-", label="at most 50 entries")
axes.set(
    title="Comparisons to find one image",
    xlabel="images",
    ylabel="comparisons",
    xscale="log",
    yscale="log",
)
axes.legend()
plt.show()
assert 50 * levels[-1] <= 300

# %% [markdown]
# ## Copying
#
# Each file is copied under a temporary name, checked by size and SHA-256, and renamed. An interrupted
# copy continues when it is run again. If the file system allows it, `link=True` makes hard links, which
# take no space.

# %%
root = place.folder("chexpert")
if root:
    catalog = open_catalog("chexpert", root)
    catalog = catalog.select_images(catalog.table.index[:500])  # enough for an example
else:
    catalog = open_catalog("phantom", None, images=place.choose(2400, 160), size=64)
with tempfile.TemporaryDirectory() as folder:
    first = build_hierarchy(catalog, folder)
    again = build_hierarchy(catalog, folder)
    print(f"first {first.copied} copied, {first.kept} kept; again {again.copied} copied, {again.kept} kept")
    assert (first.copied, first.kept) == (len(catalog), 0)
    assert (again.copied, again.kept) == (0, len(catalog))

    lost = Path(folder) / catalog.table["Hierarchical_Path"].iloc[7]
    lost.unlink()
    assert build_hierarchy(catalog, folder).copied == 1
    assert lost.is_file()

    # A batch has the same pixels from both folders.
    settings = {"batch_size": 16, "image_width": 64, "image_height": 64, "num_workers": 0}
    original = next(iter(Loaders(catalog, **settings).get_loader()))
    hierarchy = Loaders(open_hierarchy(catalog, folder), image_column="Hierarchical_Path", **settings)
    copied = next(iter(hierarchy.get_loader()))
assert (original["id"] == copied["id"]).all()
assert (original["img"] == copied["img"]).all()

# %% [markdown]
# On the command line this is `hilum hierarchy --source chexpert --root DIR --out FOLDER`, then `hilum
# train ... --hierarchy FOLDER`. `hilum pack` is better still: one file instead of 200,000. Use the
# hierarchy if files must remain files.
