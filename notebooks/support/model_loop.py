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
# # ModelLoop
#
# The founding project abandoned its ModelLoop, because models of earlier runs stayed in memory until
# the GPU was full. Here each run is a separate process. When it ends, the operating system frees all
# its memory. If it crashes, the other runs continue. If the machine is switched off, the state table
# records which runs are left.

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

from hilum import HilumError, ModelLoop

folder = tempfile.TemporaryDirectory()
base = {
    "source": "phantom",
    "source_kwargs": {"images": place.choose(1200, 160), "size": 64},
    "image_width": 32,
    "image_height": 32,
    "num_epochs": 1,
    "num_workers": 0,
    "target_columns": place.choose("competition", ["Edema", "Pleural_Effusion"]),
    "quiet": True,
    "epoch_args": "none",
}

# %% [markdown]
# ## A plan before anything starts
#
# A grid trains every combination of its values, `seeds` repeats each, and `runs` lists single runs. All
# settings of all runs are checked first, so a sweep does not fail in the night because of a
# misspelling.

# %%
loop = ModelLoop(
    base, grid={"learning_rate": [1e-4, 1e-3], "batch_size": [16, 32]}, seeds=[0, 1], name="grid"
)
runs = loop.spec.plan_runs()
for run in runs:
    print(run.name)
assert len(runs) == 2 * 2 * 2

message = ""
try:
    ModelLoop(base, grid={"learning_rat": [1e-4, 1e-3]}, name="misspelt")
except HilumError as error:
    message = str(error)
print(message)
assert "learning_rate" in message

# %% [markdown]
# ## A failed run does not stop the others
#
# The second run needs a data set that does not exist.

# %%
loop = ModelLoop(
    base,
    runs=[{}, {"source": "nih", "source_kwargs": {}, "root": "there-is-no-such-folder"}],
    name="one-fails",
    save_path=Path(folder.name),
)
result = loop.run(parallel=place.choose(None, 2))  # None: one on each GPU, or one at a time
result.runs

# %%
result.show()
assert list(result.runs["state"]) == ["finished", "failed"]
assert len(result.table) == 1
assert "there-is-no-such-folder" in next(iter(result.failures.values()))

# %% [markdown]
# ## A second call trains only unfinished runs
#
# A sweep continues where it stopped. Here only the failed run is left, and it is trained again only on
# request (`retry_failed=True`).

# %%
digest = result.run_folders[0].record["digest"]
again = loop.run()
assert again.run_folders[0].record["digest"] == digest
assert again.run_folders[0].record["started"] == result.run_folders[0].record["started"]
folder.cleanup()
