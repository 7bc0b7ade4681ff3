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
# # Convolution shapes and parameter counts by hand
#
# The founding project wrote its own CNN for two purposes: to see that shapes match from layer to layer,
# above all between convolutional and fully connected layers, and to be able to count the trainable
# parameters. Two formulas are enough.
#
# **Size.** A window of $k$ pixels moves by $s$ pixels over $n$ pixels, with $p$ pixels of padding on
# each side. The number of positions is
#
# $$\left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1.$$
#
# **Parameters.** Each of the $C_{out}$ filters has a $k \times k$ window for each of the $C_{in}$
# channels, and one bias. So the number is $C_{out}\,(C_{in} k^2 + 1)$. It does not depend on the
# image's size.

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
import torch
from torch import nn


def size_after(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Number of positions of a window."""
    return (size + 2 * padding - kernel) // stride + 1


def convolution_parameters(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    """Number of parameters of a square convolution."""
    return outputs * (inputs * kernel**2 + bias)


# %% [markdown]
# This cell compares both formulas with PyTorch for many combinations:

# %%
checked = 0
for size in (7, 16, 31, 64):
    for kernel in (1, 2, 3, 5, 7):
        for stride in (1, 2, 3):
            for padding in (0, 1, 3):
                if size + 2 * padding < kernel:
                    continue
                layer = nn.Conv2d(2, 5, kernel, stride, padding)
                with torch.no_grad():
                    out = layer(torch.zeros(1, 2, size, size))
                expected = size_after(size, kernel, stride, padding)
                assert out.shape == (1, 5, expected, expected)
                parameters = sum(weight.numel() for weight in layer.parameters())
                assert parameters == convolution_parameters(2, 5, kernel)
                checked += 1
print(f"{checked} combinations agree")

# %% [markdown]
# ## A convolution in plain Python
#
# Five nested loops, without a library. This is cross-correlation (the filter is not flipped), as in
# every deep learning library.


# %%
def convolve(
    image: np.ndarray, weights: np.ndarray, bias: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Convolves (C, H, W) with filters (O, C, k, k); gives (O, H', W')."""
    outputs, _, kernel, _ = weights.shape
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    height, width = (size_after(n, kernel, stride, padding) for n in image.shape[1:])
    result = np.empty((outputs, height, width))
    for o in range(outputs):
        for row in range(height):
            for column in range(width):
                top, left = row * stride, column * stride
                window = padded[:, top : top + kernel, left : left + kernel]
                result[o, row, column] = (window * weights[o]).sum() + bias[o]
    return result


draw = np.random.default_rng(0)
image = draw.normal(size=(2, 11, 9))
layer = nn.Conv2d(2, 3, 3, stride=2, padding=1).double()
weights, bias = (parameter.detach().numpy() for parameter in layer.parameters())
with torch.no_grad():
    expected = layer(torch.from_numpy(image)[None])[0].numpy()
assert np.allclose(convolve(image, weights, bias, 2, 1), expected)

# %% [markdown]
# ## A whole network
#
# The network has three blocks of convolution, ReLU and pooling, then two fully connected layers.
# Between the two kinds of layers, the features are flattened to channels x height x width numbers. That
# count depends on the image's size, so this network accepts only one size.

# %%
SIDE, CHANNELS, HIDDEN, TARGETS = 64, (16, 32, 64), 128, 12

rows, side, channels = [], SIDE, 1
for number, wider in enumerate(CHANNELS, 1):
    side_conv = size_after(side, kernel=3, padding=1)
    rows.append(
        (f"conv {number}", f"{wider} x {side_conv} x {side_conv}", convolution_parameters(channels, wider, 3))
    )
    side = size_after(side_conv, kernel=2, stride=2)
    rows.append((f"pool {number}", f"{wider} x {side} x {side}", 0))
    channels = wider
flat = channels * side * side
rows += [("flatten", f"{flat}", 0), ("linear 1", f"{HIDDEN}", (flat + 1) * HIDDEN)]
rows += [("linear 2", f"{TARGETS}", (HIDDEN + 1) * TARGETS)]
for name, shape, count in rows:
    print(f"{name:9} {shape:>14} {count:>9,}")
total = sum(count for _, _, count in rows)
print(f"{'':9} {'':>14} {total:>9,} parameters")

# %% [markdown]
# The same network in PyTorch. Each shape and each count is checked as the image passes through:

# %%
layers: list[nn.Module] = []
for inputs, outputs in zip((1, *CHANNELS), CHANNELS, strict=False):
    layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
layers += [nn.Flatten(), nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, TARGETS)]
net = nn.Sequential(*layers)

seen = []
x = torch.zeros(1, 1, SIDE, SIDE)
with torch.no_grad():
    for layer in net:
        x = layer(x)
        if not isinstance(layer, nn.ReLU):
            seen.append((" x ".join(map(str, x.shape[1:])), sum(w.numel() for w in layer.parameters())))
assert seen == [(shape, count) for _, shape, count in rows]
assert total == sum(weight.numel() for weight in net.parameters())

try:
    net(torch.zeros(1, 1, 80, 80))
except RuntimeError as error:
    message = str(error)
print(f"\nat 80 x 80: {message}")
assert "cannot be multiplied" in message

# %%
figure, axes = plt.subplots(figsize=(8.5, 3.4))
names = [name for name, _, count in rows if count]
counts = [count for _, _, count in rows if count]
bars = axes.bar(names, counts, color=["C0" if name.startswith("conv") else "C1" for name in names])
axes.bar_label(bars, [f"{count:,}" for count in counts])
axes.set(title="Parameters per layer: nearly all are in the first fully connected layer", ylabel="parameters")
axes.grid(visible=False, axis="x")
axes.margins(y=0.15)
plt.show()
assert max(counts) == counts[names.index("linear 1")] > 0.9 * total

# %% [markdown]
# This is why newer networks (ResNet, DenseNet) average each channel to one number before the last
# layer. Their parameter count does not depend on the image's size, and they accept images of different
# sizes. Hilum's `custom_pneumonia` resembles the network of this notebook; `hilum models describe
# custom_pneumonia --size 320` prints this table for it.
