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
# # Why does a pretrained model reject gray images?
#
# Models pretrained on photographs start with a convolution whose weights have shape (64, **3**, 7, 7):
# each of its 64 filters has a 7 x 7 window *for each of three colours*. A radiograph has one channel.
# So the error is about shapes. There are three correct solutions, and two of them compute the same
# result.

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
from torchvision.models import resnet18

torch.manual_seed(0)
net = resnet18(weights=None).eval()  # same shapes as the pretrained model, without a download
gray = torch.rand(2, 1, 64, 64)

try:
    net(gray)
except RuntimeError as error:
    message = str(error)
print(message)
assert "to have 3 channels, but got 1 channels" in message

# %% [markdown]
# ## One: repeat the gray channel
#
# Give all three colours the same gray values. Nothing in the model changes. The founding project did
# this with `torch.repeat_interleave`. `expand` does it without copying memory.

# %%
repeated = gray.repeat_interleave(3, dim=1)
assert torch.equal(repeated, gray.expand(-1, 3, -1, -1))
with torch.no_grad():
    outputs = net(repeated)
print("images", tuple(repeated.shape), "-> outputs", tuple(outputs.shape))

# %% [markdown]
# ## Two: sum the weights over the colours
#
# A convolution is a sum over channels. If all three channels are equal, so that $x_r = x_g = x_b = x$,
# then
#
# $$w_r * x_r + w_g * x_g + w_b * x_b = (w_r + w_g + w_b) * x$$
#
# So a one-channel convolution whose weights are the *sum* over the colours gives the same outputs with
# a third of the first layer's computation. (Some projects use the mean instead. It gives a third of the
# activations, which no longer match the statistics of the next layer.)

# %%
summed = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
with torch.no_grad():
    summed.weight.copy_(net.conv1.weight.sum(dim=1, keepdim=True))
    first_of_three = net.conv1(repeated)
    first_of_one = summed(gray)
largest = (first_of_three - first_of_one).abs().max().item()
print(f"largest difference of the first layer: {largest:.1e}")
assert largest < 1e-4

with torch.no_grad():
    mean = nn.functional.conv2d(gray, net.conv1.weight.mean(dim=1, keepdim=True), stride=2, padding=3)
assert torch.allclose(mean * 3, first_of_one, atol=1e-5)

# %%
figure, axes = plt.subplots(2, 8, figsize=(10, 2.9))
with torch.no_grad():
    for column in range(8):
        colours = net.conv1.weight[column].permute(1, 2, 0)
        axes[0, column].imshow(((colours - colours.min()) / (colours.max() - colours.min())).numpy())
        axes[1, column].imshow(summed.weight[column, 0].numpy())
for axis in axes.ravel():
    axis.axis("off")
figure.suptitle("Eight first-layer filters: on three colours (top), summed for gray (bottom)")
plt.show()

# %% [markdown]
# ## Three: a new first layer
#
# Replace the convolution with a new one that has one input channel. The other layers keep their
# weights, but their inputs are unfamiliar until the new layer is trained. *Without* pretrained weights
# this is simply the right choice, and `resnet_grayscale` does it.

# %%
fresh = resnet18(weights=None).eval()
fresh.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
with torch.no_grad():
    assert fresh(gray).shape == outputs.shape


def parameters(module: nn.Module) -> int:
    """Number of trainable parameters of the module."""
    return sum(weight.numel() for weight in module.parameters())


print(f"three channels {parameters(net):,} parameters, one channel {parameters(fresh):,}")
assert parameters(net) - parameters(fresh) == 2 * 64 * 7 * 7

# %% [markdown]
# ## Do not forget the normalization
#
# Pretrained weights expect pixels on the scale that they were trained with: for ImageNet, a mean of
# (0.485, 0.456, 0.406) and a standard deviation of (0.229, 0.224, 0.225), one value per colour. So
# three equal channels are no longer equal after normalization, and the summed weights need a
# correction: the standard deviation is folded into the weights, the mean into a bias.

# %%
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
with torch.no_grad():
    normalized = (repeated - MEAN[:, None, None]) / DEVIATION[:, None, None]
    scaled = net.conv1.weight / DEVIATION[:, None, None]
    bias = -(scaled * MEAN[:, None, None]).sum(dim=(1, 2, 3))
    folded = nn.functional.conv2d(gray, scaled.sum(dim=1, keepdim=True), bias, stride=2)
    expected = nn.functional.conv2d(normalized, net.conv1.weight, stride=2)
print(f"largest difference with the normalization folded in: {(folded - expected).abs().max().item():.1e}")
assert torch.allclose(folded, expected, atol=1e-4)

# %% [markdown]
# In Hilum, `net_name="resnet_pretrained"` repeats the channel and normalizes as the weights require.
# `net_name="resnet_grayscale"` has a one-channel first layer.
