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
# # Learning rate 1e-4 against 1e-6
#
# One setting differs by a factor of 100. With 1e-6 the steps are so small that in a few epochs the
# network hardly changes. The founding project ran such comparisons in notebooks; here one takes a few
# lines.

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
    "num_epochs": place.choose(4, 2),
    "learning_rate": 1e-4,
    "quiet": True,
    "epoch_args": "none",
}
del base["save_path"]
loop = ModelLoop(base, grid={"learning_rate": [1e-4, 1e-6]}, name="learning-rates", save_path=place.runs)
result = loop.run(parallel=place.choose(None, 2))  # None: one on each GPU, or one at a time
result.table

# %% [markdown]
# ## Training loss
#
# With the small learning rate, the training loss has hardly decreased.

# %%
figure, axes = plt.subplots()
decrease = {}
for folder in result.run_folders:
    combined = folder.combined().query("part == 'train'")
    rate = folder.settings["learning_rate"]
    axes.plot(combined["epoch"], combined["loss"], "o-", label=f"learning rate {rate:g}")
    decrease[rate] = combined["loss"].iloc[0] - combined["loss"].iloc[-1]
axes.set(title="Training loss", xlabel="epoch", ylabel="binary cross-entropy")
axes.legend()
plt.show()
print({rate: round(value, 4) for rate, value in decrease.items()})
assert decrease[1e-4] > decrease[1e-6]

# %% [markdown]
# ## Comparison
#
# The comparison first lists the settings that differ between the two runs. If only one setting differs,
# it is the cause of the difference in scores.

# %%
comparison = result.compare(replicates=place.choose(1000, 200))
show_comparison(comparison, flips=5)
assert not result.failures
assert sorted(result.table["learning_rate"]) == [1e-6, 1e-4]
