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
# "How do I get my model's output to match my loss function?" Three things must match: the **shape**
# (one output per target), the **scale** (raw logits or probabilities), and the **task** (exactly one
# class, or any number of findings). Most mismatches raise no error; the model only trains badly. This
# notebook shows each mismatch.

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
import torch
from torch import nn

from hilum.training.losses import MaskedBCEWithLogitsLoss

torch.manual_seed(0)
logits = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, 1.0]], dtype=torch.float64)
labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)

# %% [markdown]
# ## The task: exactly one class, or any number of findings?
#
# `CrossEntropyLoss` applies a softmax: the probabilities of an image sum to 1, so a second finding
# takes its probability from the first. But an image can have several findings. Each finding needs its
# own sigmoid, and binary cross-entropy as its loss.

# %%
softmax, sigmoid = logits.softmax(dim=1), logits.sigmoid()
print("softmax rows sum to", softmax.sum(dim=1).tolist())
print("sigmoid rows sum to", [round(total, 2) for total in sigmoid.sum(dim=1).tolist()])
assert torch.allclose(softmax.sum(dim=1), torch.ones(2, dtype=torch.float64))
both = torch.tensor([[8.0, 8.0, -8.0]], dtype=torch.float64)  # sure of two findings at once
assert (both.sigmoid()[0, :2] > 0.99).all()
assert (both.softmax(dim=1)[0, :2] < 0.51).all()

# %% [markdown]
# ## The scale: logits or probabilities?
#
# `BCELoss` takes probabilities, `BCEWithLogitsLoss` takes raw outputs (logits). Both compute the same
# formula. The second is numerically stable for large values.

# %%
with_logits = nn.functional.binary_cross_entropy_with_logits(logits, labels)
with_probabilities = nn.functional.binary_cross_entropy(sigmoid, labels)
from_formula = -(labels * sigmoid.log() + (1 - labels) * (1 - sigmoid).log()).mean()
assert torch.allclose(with_logits, with_probabilities)
assert torch.allclose(with_logits, from_formula)

extreme, wrong = torch.tensor([[-120.0]]), torch.tensor([[1.0]])
naive = -torch.log(extreme.sigmoid())
print(f"a logit of -120 for a positive label: naive {naive.item()}, with logits ", end="")
print(nn.functional.binary_cross_entropy_with_logits(extreme, wrong).item())
assert torch.isinf(naive).all()
assert nn.functional.binary_cross_entropy_with_logits(extreme, wrong).item() == 120

# %% [markdown]
# ### The silent mistake: two sigmoids
#
# A model that ends in a sigmoid, trained with a loss that applies another sigmoid, still trains, but
# very slowly. After two sigmoids every probability is between 0.5 and 0.73, and the gradient is at most
# a quarter.

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
slopes.set(title="Size of the gradient", xlabel="the model's raw output", ylabel="- gradient")
slopes.legend()
plt.show()

reachable = torch.tensor([0.0, 1.0], dtype=torch.float64).sigmoid()
print(f"after two sigmoids probabilities are between {reachable[0]:.2f} and {reachable[1]:.2f}")
assert slope_twice.abs().max() < 0.25 * slope_once.abs().max()
assert twice.min() > 0.31  # the model can never be certain
assert slope_twice[0].abs() < 1e-3  # a confident mistake is hardly corrected
assert slope_once[0].abs() > 0.99

# %% [markdown]
# ## The shape
#
# One target still needs its own dimension. Outputs of shape (B, 1) and labels of shape (B,) broadcast
# to (B, B): every image is compared with every label. Some losses raise an error for this; a custom one
# may not.

# %%
outputs, one_target = torch.randn(8, 1), torch.randint(0, 2, (8,)).float()
assert ((outputs - one_target) ** 2).shape == (8, 8)
messages = []
for loss, wrong_shape in (
    (nn.BCEWithLogitsLoss(), one_target),
    (MaskedBCEWithLogitsLoss(), torch.zeros(8, 12)),
):
    try:
        loss(outputs, wrong_shape)
    except ValueError as error:
        messages.append(str(error))
        print(f"{type(loss).__name__}: {error}")
assert len(messages) == 2

# %% [markdown]
# ## Mean, sum, weights and unknown labels
#
# `loss_reduction="sum"` sums the loss over the batch's labels, "mean" divides the sum by their number.
# The gradient differs by that factor, so a learning rate that works with one does not work with the
# other. (Adam divides its steps by the gradient's size and is hardly affected, unless weight decay is
# added to the gradient.) Unknown labels are NaN. They must count neither in the sum nor in the number.

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
# A weight on the positives makes a missed positive cost more than a false alarm. With negatives /
# positives as the weight, both classes contribute equally, and the best constant prediction for a rare
# finding moves from its prevalence to one half. This is why `use_positivity_weights` raises recall at
# 0.5 even if the model does not discriminate better.

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
