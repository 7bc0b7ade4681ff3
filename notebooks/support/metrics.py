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
# # Metrics
#
# Metrics hold what the model predicts for each image in each epoch, and the scores. This notebook fills
# them with simulated outputs, so that every score can be compared with scikit-learn.

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
import numpy as np
import pandas as pd
import torch
from sklearn import metrics as reference

from hilum import Metrics
from hilum.metrics import UndefinedScoreWarning

targets = ["Edema", "Pleural_Effusion", "Atelectasis"]
draw = np.random.default_rng(1)


def some_labels(ids: range) -> pd.DataFrame:
    """Labels of three targets with prevalences of 8, 35 and 15 %."""
    values = (draw.random((len(ids), 3)) < (0.08, 0.35, 0.15)).astype(np.float32)
    return pd.DataFrame(values, index=pd.Index(ids, name="ImageID"), columns=targets)


train_actual, val_actual = some_labels(range(800)), some_labels(range(5000, 5400))
metrics = Metrics(targets, train_actual, val_actual)

# %% [markdown]
# ## Use in a training loop
#
# After each batch, the loop appends the ids and the *raw* outputs, in any order. At the end of the
# epoch it closes each part. Metrics apply the sigmoid and the thresholds; the loss takes raw outputs
# too.


# %%
def outputs_for(actual: pd.DataFrame, skill: float) -> torch.Tensor:
    """Raw outputs of a simulated model; more skill separates positives and negatives better."""
    noise = draw.normal(-1.2, 1.0, actual.shape)
    return torch.from_numpy(noise + skill * actual.to_numpy())


for epoch, skill in enumerate((0.3, 1.1, 1.6, 1.8), 1):
    for is_validation, actual in ((False, train_actual), (True, val_actual)):
        outputs = outputs_for(actual, skill - 0.2 * is_validation)
        shuffled = draw.permutation(len(actual))
        for start in range(0, len(actual), 64):
            rows = shuffled[start : start + 64]
            ids = torch.from_numpy(actual.index.to_numpy()[rows])
            metrics.append_epoch_batch_data(ids, outputs[rows], is_validation=is_validation)
        metrics.close_epoch(epoch, is_validation=is_validation)
print(metrics.epochs(), metrics.val_probability_hx[4].shape)

# %% [markdown]
# ## Every score agrees with scikit-learn

# %%
probabilities, predictions = metrics.val_probability_hx[4], metrics.val_prediction_hx[4]
ours = metrics.scores.query("epoch == 4 and part == 'val'").set_index("target")
for target in targets:
    actual, p, yes = val_actual[target], probabilities[target], predictions[target]
    assert actual.index.equals(p.index), "rows are sorted by ImageID, whatever the order of the batches"
    assert np.isclose(ours.at[target, "recall"], reference.recall_score(actual, yes))
    assert np.isclose(ours.at[target, "precision"], reference.precision_score(actual, yes, zero_division=0))
    assert np.isclose(ours.at[target, "f1"], reference.f1_score(actual, yes))
    assert np.isclose(ours.at[target, "roc_auc"], reference.roc_auc_score(actual, p))
    assert np.isclose(ours.at[target, "avg_precision"], reference.average_precision_score(actual, p))
    assert ours.at[target, "positives"] == actual.sum()
    assert ours.at[target, "predicted_positives"] == yes.sum()
combined = metrics.combined.query("epoch == 4 and part == 'val'").iloc[0]
assert np.isclose(combined["accuracy"], reference.accuracy_score(val_actual, predictions))
assert np.isclose(combined["hamming_loss"], reference.hamming_loss(val_actual, predictions))
ours.drop(columns=["epoch", "part"]).round(3)

# %% [markdown]
# In the founding document's tables, a column named "True Positives" counts the *actual* positives.
# Hilum has three columns: `positives`, `predicted_positives` and `true_positives`.
#
# ## Thresholds
#
# A prediction is positive if its probability is at least 0.5, or at least the given threshold.
# Thresholds change the predictions only. The probabilities, and the scores computed from them, stay the
# same.

# %%
lower = metrics.with_thresholds({"Edema": 0.2})
before, after = (
    metrics.scores.query("epoch == 4 and part == 'val'"),
    lower.scores.query("epoch == 4 and part == 'val'"),
)
edema = pd.concat([before.iloc[0], after.iloc[0]], axis=1, keys=["at 0.5", "at 0.2"])
print(edema.loc[["recall", "precision", "roc_auc", "avg_precision"]].to_string())
assert after["recall"].iloc[0] > before["recall"].iloc[0]
assert after["roc_auc"].equals(before["roc_auc"])
assert after["recall"].iloc[1:].tolist() == before["recall"].iloc[1:].tolist()

# %% [markdown]
# ## Display

# %%
metrics.display_metrics(metric_data_source="val", include_targets=["Edema", "Pleural_Effusion"])

# %%
metrics.display_epoch_progression(show_accuracy_progression=False, show_f1_progression=False)

# %% [markdown]
# ## An undefined score is not 0
#
# Without a positive image, recall is 0 / 0. Hilum gives `NaN` (displayed as n/a), warns once, and
# leaves the score out of means. A value of 0 would claim that the model missed a positive.

# %%
none_positive = val_actual.assign(Edema=0.0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UndefinedScoreWarning)
    empty = Metrics(targets, train_actual, none_positive)
    empty.append_epoch_batch_data(
        none_positive.index.to_numpy(), outputs_for(none_positive, 1), is_validation=True
    )
    empty.close_epoch(1, is_validation=True)
row = empty.scores.query("part == 'val' and target == 'Edema'").iloc[0]
print(row[["positives", "recall", "roc_auc"]].to_string())
assert np.isnan(row["recall"])
assert np.isnan(row["roc_auc"])

# %%
history = metrics.scores.query("part == 'val'").pivot(index="epoch", columns="target", values="roc_auc")  # noqa: PD010
axes = history.plot(marker="o", title="ROC AUC by epoch", xticks=history.index)
plt.show()
assert (history.iloc[-1] > history.iloc[0]).all()
