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
# # Matching a model's output to its loss
#
# "How do I get my model's output to match my loss function?" Three things must fit: the **shape** (one
# output per target), the **scale** (raw logits or probabilities), and the **question** (which one of these,
# or which of these). Most mismatches raise no error. They just train badly. Here each is provoked on
# purpose.

# %% tags=["bootstrap"]
try:
    from hilum.notebook import bootstrap
except ModuleNotFoundError:  # Colab begins without Hilum: take it from the clone in your Drive
    import subprocess
    import sys

    from google.colab import drive

    drive.mount("/content/drive")
    clone = "/content/drive/MyDrive/hilum"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", clone], check=True)
    sys.path.insert(0, clone)  # this kernel began before the installation
    from hilum.notebook import bootstrap

place = bootstrap()
print(place)
# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

from hilum.training.losses import MaskedBCEWithLogitsLoss

torch.manual_seed(0)
logits = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, 1.0]], dtype=torch.float64)
labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)

# %% [markdown]
# ## The question: one of these, or any of these?
#
# `CrossEntropyLoss` applies a softmax: the probabilities of an image add up to 1, so a second finding must
# take its probability from the first. Findings do not exclude each other. Each needs a sigmoid of its own:
# binary cross-entropy.

# %%
softmax, sigmoid = logits.softmax(dim=1), logits.sigmoid()
print("softmax rows add up to", softmax.sum(dim=1).tolist())
print("sigmoid rows add up to", [round(total, 2) for total in sigmoid.sum(dim=1).tolist()])
assert torch.allclose(softmax.sum(dim=1), torch.ones(2, dtype=torch.float64))
both = torch.tensor([[8.0, 8.0, -8.0]], dtype=torch.float64)  # sure of two findings at once
assert (both.sigmoid()[0, :2] > 0.99).all()
assert (both.softmax(dim=1)[0, :2] < 0.51).all()

# %% [markdown]
# ## The scale: logits or probabilities?
#
# `BCELoss` wants probabilities, `BCEWithLogitsLoss` raw outputs. They are one formula; the second computes
# it in a way that survives large numbers.

# %%
with_logits = nn.functional.binary_cross_entropy_with_logits(logits, labels)
with_probabilities = nn.functional.binary_cross_entropy(sigmoid, labels)
by_hand = -(labels * sigmoid.log() + (1 - labels) * (1 - sigmoid).log()).mean()
assert torch.allclose(with_logits, with_probabilities)
assert torch.allclose(with_logits, by_hand)

extreme, wrong = torch.tensor([[-120.0]]), torch.tensor([[1.0]])
naive = -torch.log(extreme.sigmoid())
print(f"a logit of -120 for a positive label: naive {naive.item()}, with logits ", end="")
print(nn.functional.binary_cross_entropy_with_logits(extreme, wrong).item())
assert torch.isinf(naive).all()
assert nn.functional.binary_cross_entropy_with_logits(extreme, wrong).item() == 120

# %% [markdown]
# ### The silent mistake: two sigmoids
#
# A model that ends in a sigmoid, with a loss that applies another, trains, but in slow motion: after two
# sigmoids probabilities lie between 0.5 and 0.73, whatever the model says, and the gradient is at most a
# quarter.

# %%
z = torch.linspace(-8, 8, 400, dtype=torch.float64, requires_grad=True)
once = nn.functional.binary_cross_entropy_with_logits(z, torch.ones_like(z), reduction="none")
twice = nn.functional.binary_cross_entropy_with_logits(z.sigmoid(), torch.ones_like(z), reduction="none")
slope_once = torch.autograd.grad(once.sum(), z)[0]
slope_twice = torch.autograd.grad(twice.sum(), z)[0]

figure, (values, slopes) = plt.subplots(1, 2, figsize=(10, 3.6))
values.plot(z.detach(), once.detach(), label="one sigmoid")
values.plot(z.detach(), twice.detach(), label="two sigmoids")
values.set(title="Loss of a positive label", xlabel="the model's raw output", ylabel="loss")
values.legend()
slopes.plot(z.detach(), -slope_once, label="one sigmoid")
slopes.plot(z.detach(), -slope_twice, label="two sigmoids")
slopes.set(title="How hard it pulls", xlabel="the model's raw output", ylabel="- gradient")
slopes.legend()
plt.show()

reachable = torch.tensor([0.0, 1.0], dtype=torch.float64).sigmoid()
print(f"after two sigmoids probabilities lie between {reachable[0]:.2f} and {reachable[1]:.2f}")
assert slope_twice.abs().max() < 0.25 * slope_once.abs().max()
assert twice.min() > 0.31  # it can never be sure
assert slope_twice[0].abs() < 1e-3  # a confident mistake is hardly corrected at all
assert slope_once[0].abs() > 0.99

# %% [markdown]
# ## The shape
#
# One target still needs a dimension of its own. Outputs (B, 1) against labels (B,) broadcast to (B, B):
# every image is compared with every label. Some losses refuse this; a hand-written one does not.

# %%
outputs, one_target = torch.randn(8, 1), torch.randint(0, 2, (8,)).float()
assert ((outputs - one_target) ** 2).shape == (8, 8)
refusals = []
for loss, wrong_shape in (
    (nn.BCEWithLogitsLoss(), one_target),
    (MaskedBCEWithLogitsLoss(), torch.zeros(8, 12)),
):
    try:
        loss(outputs, wrong_shape)
    except ValueError as error:
        refusals.append(str(error))
        print(f"{type(loss).__name__}: {error}")
assert len(refusals) == 2

# %% [markdown]
# ## Mean, sum, weights and labels that are left out
#
# `loss_reduction="sum"` adds up the batch's labels, "mean" divides by their number: the gradient differs by
# that factor, so a learning rate that suits one does not suit the other. (Adam divides its steps by the
# gradient's size and hardly notices, until weight decay is added to the gradient.) Unknown labels are NaN;
# they must count in neither the sum nor the number.

# %%
summed = MaskedBCEWithLogitsLoss(reduction="sum")(logits, labels)
mean = MaskedBCEWithLogitsLoss()(logits, labels)
assert torch.allclose(summed, mean * labels.numel())

partly = labels.clone()
partly[0, 2] = torch.nan
known = ~partly.isnan()
expected = nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known])
assert torch.allclose(MaskedBCEWithLogitsLoss()(logits, partly), expected)
assert torch.isnan(nn.functional.binary_cross_entropy_with_logits(logits, partly))

# %% [markdown]
# A positive weight makes a missed positive dearer than a false alarm. With negatives / positives as the
# weight both sides count alike, and the best constant answer for a rare finding moves from its prevalence
# to one half. That is why `use_positivity_weights` raises recall at 0.5 without the model seeing anything
# better.

# %%
prevalence = 0.05
weight = (1 - prevalence) / prevalence
p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
plain = -(prevalence * p.log() + (1 - prevalence) * (1 - p).log())
weighted = -(weight * prevalence * p.log() + (1 - prevalence) * (1 - p).log())
best_plain, best_weighted = p[plain.argmin()].item(), p[weighted.argmin()].item()
print(f"best constant probability: {best_plain:.3f} plain, {best_weighted:.3f} weighted")
assert abs(best_plain - prevalence) < 2e-3
assert abs(best_weighted - 0.5) < 2e-3
