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
# # StandardTraining
#
# The main entry point: settings in, a trained model and a complete run folder out. Every setting has
# one default, defined in one place, so two runs differ exactly in the settings that you change.

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
import json
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from hilum import HilumError, RunFolder, StandardTraining
from hilum.config import setting_fields
from hilum.metrics import UndefinedScoreWarning
from hilum.run_folder import digest_of

warnings.simplefilter("ignore", UndefinedScoreWarning)  # a small validation part may lack a finding
size = place.choose(64, 32)
base = place.settings("chexpert", size, size) | {
    "num_epochs": place.choose(4, 1),
    "learning_rate": 1e-3,
    "target_columns": place.choose("competition", ["Edema", "Pleural_Effusion"]),
    "epoch_args": "none",
    "quiet": True,
}
folder = tempfile.TemporaryDirectory()
base["save_path"] = Path(folder.name)

# %% [markdown]
# ## Every setting, its default, its unit

# %%
fields = setting_fields()
settings = pd.DataFrame(
    [(name, field.default, field.description) for name, field in fields.items()],
    columns=["setting", "default", "what it is"],
)
print(f"{len(settings)} settings")
settings.head(12)

# %% [markdown]
# A misspelt name or an impossible value raises an error before anything starts:

# %%
for wrong in ({"learning_rat": 1e-3}, {"learning_rate": -1}, {"val_fraction": 0.7, "test_fraction": 0.5}):
    try:
        StandardTraining(**(base | wrong))
    except HilumError as error:
        print(error)
    else:
        raise AssertionError("no error was raised")

# %% [markdown]
# ## A run

# %%
training = StandardTraining(**base, name="plain")
metrics = training.train()
print()
for path in sorted(training.folder.path.rglob("*")):
    if path.is_file():
        print(f"{path.relative_to(training.folder.path)!s:48} {path.stat().st_size:>12,}")

# %% [markdown]
# ## Load the run again
#
# This needs only the folder, at any time, on any machine:

# %%
StandardTraining.display_run_parameters(training.folder.path)
again = StandardTraining.load_metrics(training.folder.path)
pd.testing.assert_frame_equal(again.scores, metrics.scores)
record = json.loads((training.folder.path / "run.json").read_text())
assert record["status"] == "finished"
assert record["settings"]["learning_rate"] == 1e-3

# %% [markdown]
# ## The same settings, the same digest
#
# The digest is the SHA-256 of the last epoch's predictions. On one machine's CPU, the same settings
# give the same digest. A different seed gives a different digest.

# %%
digests = {"plain": training.folder.record["digest"]}
for name, seed in (("again", 0), ("other seed", 1)):
    repeat = StandardTraining(**base, name=name.replace(" ", "-"), seed=seed)
    repeat.train(conclude=False)  # no figures, no report: only the predictions matter here
    digests[name] = digest_of(repeat.folder.predictions(base["num_epochs"]))
for name, digest in digests.items():
    print(f"{name:12} {digest[:16]}")
if place.device == "cpu":
    assert digests["plain"] == digests["again"]
assert digests["plain"] != digests["other seed"]

# %%
split = RunFolder(base["save_path"] / "plain").split()
parts = split.groupby("part")["PatientID"].agg(set)
assert not parts["train"] & parts["val"]
axes = split["part"].value_counts().plot.bar(title="Images of each part", rot=0, ylabel="images")
axes.grid(visible=False, axis="x")
plt.show()

# %%
folder.cleanup()
