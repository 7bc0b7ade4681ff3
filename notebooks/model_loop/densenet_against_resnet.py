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
# # DenseNet against ResNet
#
# Two networks, with all other settings equal. `ModelLoop` trains each run in a separate process, so the
# memory is freed in between. Then both networks are compared on the same patients. One seed per network
# compares two trained *models*. To compare the two *architectures*, repeat over seeds, as this notebook
# does at full size.

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

from hilum import ModelLoop
from hilum.report.comparison_page import show_comparison

size = place.choose(128, 32)
base = place.settings("chexpert", size, size) | {
    "target_columns": place.choose("competition", ["Edema", "Pleural_Effusion"]),
    "num_epochs": place.choose(4, 1),
    "learning_rate": 1e-4,
    "quiet": True,
    "epoch_args": "none",
    "net_name": "resnet_grayscale",
}
del base["save_path"]
loop = ModelLoop(
    base,
    grid={"net_name": ["resnet_grayscale", "densenet"]},
    seeds=place.choose([0, 1, 2], None),
    name="densenet-against-resnet",
    save_path=place.runs,
)
result = loop.run(parallel=place.choose(None, 2))  # None: one on each GPU, or one at a time
result.table

# %% [markdown]
# ## The table is not the answer
#
# It shows means over targets and, for several seeds, their spread. Whether a difference exceeds chance
# depends on the patients too:

# %%
comparison = result.compare(replicates=place.choose(1000, 200))
show_comparison(comparison, flips=5)

# %% [markdown]
# ## Side by side
#
# Both were evaluated on the same patients: with the same seed the split is the same for every network.
# This makes the comparison a paired one.

# %%
axes = result.table.set_index("net_name")[["recall", "roc_auc", "precision"]].T.plot.bar(rot=0)
axes.set(title="Validation, best epoch, mean over targets", ylim=(0, 1))
axes.grid(visible=False, axis="x")
plt.show()

assert set(result.table["net_name"]) == {"resnet_grayscale", "densenet"}
assert not result.failures
assert len(result.run_folders) == 2 * place.choose(3, 1)
splits = {
    folder.record["split"]["fingerprint"] for folder in result.run_folders if folder.settings["seed"] == 0
}
assert len(splits) == 1, "both networks are evaluated on the same patients"
