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
# # Why is accuracy over 90 % when everything is predicted negative?
#
# Because nine labels in ten *are* negative. Accuracy counts how often the model is right, and for a
# rare finding the answer "negative" is nearly always right. This notebook computes it on labels with
# CheXpert's prevalences and shows which scores reveal the problem.

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
from sklearn.metrics import accuracy_score, hamming_loss

from hilum.metrics import combined_scores, itemized_scores
from hilum.targets import CHEXPERT_TARGETS

#: Positives per 100 of CheXpert's 131,748 cleaned images, rounded.
PREVALENCE = dict(zip(CHEXPERT_TARGETS, (5, 11, 45, 4, 23, 6, 3, 16, 8, 34, 1, 4), strict=True))

draw = np.random.default_rng(0)
images = 20_000
labels = pd.DataFrame({name: (draw.random(images) < share / 100) for name, share in PREVALENCE.items()})
labels = labels.astype(np.float32)
nothing = pd.DataFrame(0.0, index=labels.index, columns=labels.columns)

# %%
scores = itemized_scores(labels, nothing + 0.01, list(labels.columns), [0.5] * 12).set_index("target")
accuracy = (labels == 0).mean()
shown = pd.DataFrame({"accuracy": accuracy, "recall": scores["recall"], "ROC AUC": scores["roc_auc"]})
print(shown.round(3).to_string())

figure, axes = plt.subplots(figsize=(8.5, 4))
order = accuracy.sort_values().index
axes.barh([name.replace("_", " ") for name in order], accuracy[order], label="accuracy")
axes.plot(scores.loc[order, "recall"], range(12), "D", color="C1", clip_on=False, label="recall")
axes.set(title='A "model" that predicts every image negative', xlim=(0, 1))
axes.legend(loc="lower center", ncols=2)
plt.show()

rare = accuracy[[name for name in PREVALENCE if PREVALENCE[name] < 10]]
assert (rare > 0.9).all()
assert (scores["recall"] == 0).all()
assert (scores["roc_auc"] == 0.5).all()

# %% [markdown]
# ## Two accuracies for many labels
#
# With twelve labels per image, "accuracy" has two definitions, and neither helps:
#
# - *exact match* (`sklearn.metrics.accuracy_score`): all twelve labels must be right. With eleven of
#   twelve right on every image, the accuracy is 0.
# - *1 - Hamming loss*: the proportion of all labels that are right. The all-negative model scores well
#   over 80 %.

# %%
one_wrong = labels.copy()
one_wrong["Fracture"] = 1 - one_wrong["Fracture"]
rows = {
    "all negative": nothing,
    "11 of 12 right on every image": one_wrong,
    "perfect": labels,
}
table = pd.DataFrame(
    {
        name: {
            "exact match": accuracy_score(labels, predicted),
            "1 - Hamming loss": 1 - hamming_loss(labels, predicted),
        }
        for name, predicted in rows.items()
    }
).T
print(table.round(3).to_string())
ours = combined_scores(labels, nothing.astype(np.int8))
assert abs(ours["accuracy"] - table.loc["all negative", "exact match"]) < 1e-9
assert abs(1 - ours["hamming_loss"] - table.loc["all negative", "1 - Hamming loss"]) < 1e-9
assert table.loc["11 of 12 right on every image", "exact match"] == 0
assert table.loc["all negative", "1 - Hamming loss"] > 0.8

# %% [markdown]
# ## Scores that reveal it
#
# - **Recall** is the proportion of positives that are found: 0 for the all-negative model. But recall
#   alone is also misleading: if every image is called positive, recall is 1.
# - **Precision** is the proportion of positive predictions that are right. If every image is called
#   positive, precision equals the prevalence. So recall and precision belong together.
# - **ROC AUC** and **average precision** measure the order of the probabilities. If all images have the
#   same probability, ROC AUC is 0.5 and average precision equals the prevalence.

# %%
everything = itemized_scores(labels, nothing + 0.99, list(labels.columns), [0.5] * 12).set_index("target")
assert (everything["recall"] == 1).all()
assert np.allclose(everything["precision"], labels.mean())
assert np.allclose(everything["avg_precision"], labels.mean())

share = np.linspace(0, 1, 101)
prevalence = float(labels["Atelectasis"].mean())
figure, axes = plt.subplots()
axes.plot(share, share, label="recall")
axes.plot(share[1:], np.full(100, prevalence), label="precision")
axes.plot(share, share * prevalence + (1 - share) * (1 - prevalence), label="accuracy")
axes.set(title="Predicting a random proportion of the images positive (Atelectasis)")
axes.set(xlabel="proportion predicted positive", ylabel="score", ylim=(0, 1.02))
axes.legend()
plt.show()

# %% [markdown]
# Recall rises to 1 without any skill, accuracy is highest if no image is called positive, and precision
# does not change. Hilum lists recall first, always with precision and the proportion predicted
# positive, and warns if a threshold reaches high recall by calling nearly everything positive.
