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
# # DenseNet: one model, one set of parameters
#
# The founding document's run `DenseNet_Oversample_L2_Sum_PosWeight_5_Targets`: a DenseNet, five
# targets, oversampled to at least 150 images of each target vector, L2 0.1, summed losses, weighted
# positives. Its settings are in `recipes/densenet-chexpert-2020.toml`. On the command line, this
# notebook is one line:
#
#     hilum train recipes/densenet-chexpert-2020.toml --root path/to/CheXpert-v1.0-small

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

from hilum import RunConfig, StandardTraining
from hilum.config import settings_from_toml
from hilum.metrics import UndefinedScoreWarning

warnings.simplefilter("ignore", UndefinedScoreWarning)  # a small validation part may lack a finding
recipe = settings_from_toml(place.home / "recipes" / "densenet-chexpert-2020.toml")

# %% [markdown]
# ## What the document lists

# %%
listed = {
    "net_name": "densenet",
    "number_images": 0,
    "batch_size": 16,
    "learning_rate": 1e-5,
    "num_epochs": 4,
    "use_positivity_weights": True,
    "image_width": 224,
    "image_height": 224,
    "affine_degrees": 5,
    "translate_fraction": 0.05,
    "shear_degrees": 5,
    "brightness_jitter": 0.2,
    "contrast_jitter": 0.1,
    "aug_fraction": 0.4,
    "observation_min_count": 150,
    "l2_reg": 0.1,
    "loss_reduction": "sum",
}
config = RunConfig(**recipe)
for setting, value in listed.items():
    print(f"{setting:24} {value}")
    assert getattr(config, setting) == value, setting
competition = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural_Effusion"}
assert set(config.target_columns) in ({"competition"}, competition)

# %% [markdown]
# ## Training
#
# If the run exists already, it is loaded instead.

# %%
size = place.choose(224, 32)
smaller = {"num_epochs": 1, "batch_size": 32, "observation_min_count": 4} if place.small else {}
settings = recipe | place.settings("chexpert", size, size) | smaller
settings |= {"name": "DenseNet_Oversample_L2_Sum_PosWeight_5_Targets", "epoch_args": "none", "quiet": True}
path = place.runs / settings["name"]
if not (path / "run.json").is_file():
    StandardTraining(**settings).train()

# %% [markdown]
# ## Results from the run folder
#
# As in the document. Only the folder is needed.

# %%
StandardTraining.display_run_parameters(path)
metrics = StandardTraining.load_metrics(path)

# %%
metrics.display_metrics()

# %%
metrics.display_epoch_progression()

# %% [markdown]
# ## How to read it
#
# The document shows the scores of its DenseNet run after four epochs: over the five findings, a mean
# validation recall of 0.49 and a mean ROC AUC of 0.65. Effusion was the easiest (0.80), atelectasis no
# better than chance (0.51). The document split by image, so one patient could be in both parts, and
# used thresholds of 0.5. Hilum splits by patient and measures recall at a threshold that was chosen on
# validation and frozen. So the numbers cannot be compared with the document's. Two runs of Hilum can be
# compared, with `hilum compare`.

# %%
epochs = metrics.epochs()
scores = metrics.scores.query("part == 'val' and epoch == @epochs[-1]").set_index("target")
axes = scores[["recall", "roc_auc", "avg_precision"]].plot.bar(rot=20, title="Validation, last epoch")
axes.set(xlabel="", ylim=(0, 1))
axes.grid(visible=False, axis="x")
plt.show()
assert epochs == list(range(1, settings.get("num_epochs", 4) + 1))
assert set(scores.index) == competition
