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
# # Why can't the ROC curve come from predicted labels?
#
# A model gives each radiograph a probability. A threshold turns it into a label, positive or negative.
# The ROC curve shows *every* threshold: it plots recall (the proportion of positives that are found)
# against the false positive rate (the proportion of negatives that are called positive). A predicted
# label no longer contains the probability. It fixes one threshold, so only a single point of the curve
# remains.

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
from sklearn.metrics import roc_auc_score, roc_curve

from hilum.metrics.ranking import rank

draw = np.random.default_rng(7)
labels = (draw.random(2000) < 0.12).astype(np.float32)
logits = draw.normal(-2.2, 1.1, 2000) + 1.9 * labels
probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
predictions = (probabilities >= 0.5).astype(np.float32)

# %% [markdown]
# ## The curve and the point
#
# `hilum.metrics.ranking.rank` sorts the probabilities once and counts. Every curve and score follows
# from the counts.

# %%
ranking = rank(labels, probabilities)
false_positive_rate, recall, _ = ranking.roc_curve()
at_half = ranking.confusion(0.5)
point = ((predictions[labels == 0]).mean(), at_half.recall)

figure, (distributions, curve) = plt.subplots(1, 2, figsize=(10, 4.2))
for value, name in ((0, "negative"), (1, "positive")):
    distributions.hist(
        probabilities[labels == value], bins=40, range=(0, 1), density=True, alpha=0.6, label=name
    )
distributions.axvline(0.5, color="#333", ls="--", lw=1)
distributions.set(title="Predicted probabilities", xlabel="probability", ylabel="density")
distributions.legend()
curve.plot(false_positive_rate, recall, label=f"from probabilities: {ranking.roc_auc():.3f}")
curve.plot([0, point[0], 1], [0, point[1], 1], "o--", label="from labels: one point, two line segments")
curve.fill_between([0, point[0], 1], [0, point[1], 1], alpha=0.12, color="C1")
curve.set(title="ROC", xlabel="false positive rate", ylabel="recall", aspect="equal")
curve.legend(loc="lower right")
plt.show()

# %% [markdown]
# scikit-learn accepts labels as scores and draws a "curve" through that one point. Its area is not a
# ROC AUC. It is exactly the mean of recall and specificity at this one threshold:

# %%
from_labels = roc_auc_score(labels, predictions)
specificity = 1 - point[0]
print(f"ROC AUC from probabilities   {roc_auc_score(labels, probabilities):.3f}")
print(f'"ROC AUC" from labels        {from_labels:.3f}')
print(f"(recall + specificity) / 2   {(at_half.recall + specificity) / 2:.3f}")

assert abs(ranking.roc_auc() - roc_auc_score(labels, probabilities)) < 1e-9
assert abs(from_labels - (at_half.recall + specificity) / 2) < 1e-6
assert len(roc_curve(labels, predictions)[0]) == 3  # the two corners and the point
assert from_labels < ranking.roc_auc() - 0.1

# %% [markdown]
# ## What the area means
#
# Take one positive and one negative radiograph at random. The ROC AUC is the probability that the
# positive one has the higher score (ties count half). This definition has no threshold, so the ROC AUC
# does not depend on one. The number computed from labels changes with every threshold:

# %%
positive, negative = probabilities[labels == 1], probabilities[labels == 0]
pairs = np.sign(positive[:, None] - negative[None, :])
chance = (pairs > 0).mean() + (pairs == 0).mean() / 2
print(f"probability of the right order: {chance:.4f}, ROC AUC: {ranking.roc_auc():.4f}")
assert abs(chance - ranking.roc_auc()) < 1e-6

thresholds = np.linspace(0.02, 0.9, 60)
by_threshold = [roc_auc_score(labels, probabilities >= threshold) for threshold in thresholds]
figure, axes = plt.subplots()
axes.plot(thresholds, by_threshold, color="C1", label='"ROC AUC" of the labels at this threshold')
axes.axhline(ranking.roc_auc(), label="ROC AUC of the probabilities")
axes.set(title="The same model", xlabel="threshold", ylabel="area", ylim=(0.45, 1))
axes.legend()
plt.show()
assert max(by_threshold) < ranking.roc_auc()
assert max(by_threshold) - min(by_threshold) > 0.2

# %% [markdown]
# So Hilum saves the probabilities of every image in every epoch (`predictions/epoch-0001.parquet`), not
# the labels. A threshold can be chosen later. A probability that was not saved cannot be recovered.
