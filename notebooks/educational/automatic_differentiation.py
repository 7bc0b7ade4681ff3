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
# # Automatic differentiation
#
# `loss.backward()` looks like magic but is bookkeeping. Every operation knows its own derivative. The
# chain rule multiplies the derivatives along each path from the loss back to a weight and sums over the
# paths. This notebook builds an engine for single numbers in about forty lines. Its results must agree
# with PyTorch's autograd to the last digits of a float64.

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
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch


class Scalar:
    """A number that remembers the numbers it was computed from.

    Attributes:
        value: the number.
        gradient: derivative, with respect to this number, of the result that `backward` was called on.
        parents: the numbers it was computed from, each with the derivative of this number with respect to it.
    """

    def __init__(self, value: float, *parents: tuple["Scalar", float]):
        self.value, self.gradient, self.parents = value, 0.0, parents

    def __add__(self, other: "Scalar") -> "Scalar":
        """Gives a + b: both derivatives are 1."""
        return Scalar(self.value + other.value, (self, 1.0), (other, 1.0))

    def __mul__(self, other: "Scalar") -> "Scalar":
        """Gives a b: the derivative with respect to a is b, and with respect to b it is a."""
        return Scalar(self.value * other.value, (self, other.value), (other, self.value))

    def __neg__(self) -> "Scalar":
        """Gives -a: the derivative is -1."""
        return Scalar(-self.value, (self, -1.0))

    def exp(self) -> "Scalar":
        """Gives e^a, which is its own derivative."""
        value = math.exp(self.value)
        return Scalar(value, (self, value))

    def log(self) -> "Scalar":
        """Gives ln a: the derivative is 1 / a."""
        return Scalar(math.log(self.value), (self, 1 / self.value))

    def inverse(self) -> "Scalar":
        """Gives 1 / a: the derivative is -1 / a²."""
        return Scalar(1 / self.value, (self, -1 / self.value**2))

    def relu(self) -> "Scalar":
        """Gives the larger of a and 0. At 0 the derivative is 0, as in PyTorch."""
        return Scalar(max(self.value, 0.0), (self, float(self.value > 0)))

    def backward(self) -> None:
        """Computes the gradients of all numbers that this one was computed from."""
        order: list[Scalar] = []
        seen: set[int] = set()

        def visit(node: "Scalar") -> None:
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.gradient = 1.0
        # In reverse order, the gradient of a number is complete before it is passed to its parents.
        for node in reversed(order):
            for parent, slope in node.parents:
                parent.gradient += slope * node.gradient


# %% [markdown]
# ## One neuron with the loss of a finding
#
# Two inputs, one output $z = w_1 x_1 + w_2 x_2 + b$, the sigmoid $p = 1 / (1 + e^{-z})$, and the binary
# cross-entropy for a positive label, $-\ln p$. The formula of the derivative is $\partial L / \partial
# w_1 = (p - 1)\, x_1$. The engine, autograd and the formula must agree.


# %%
def neuron_loss(w1, w2, b, x1, x2):
    """The loss -ln sigmoid(w1 x1 + w2 x2 + b), and the probability, for scalars."""
    z = w1 * x1 + w2 * x2 + b
    p = (Scalar(1.0) + (-z).exp()).inverse()
    return -p.log(), p


values = {"w1": 0.5, "w2": -1.2, "b": 0.3, "x1": 2.0, "x2": 0.7}
ours = {name: Scalar(value) for name, value in values.items()}
loss, p = neuron_loss(**ours)
loss.backward()

theirs = {
    name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in values.items()
}
z = theirs["w1"] * theirs["x1"] + theirs["w2"] * theirs["x2"] + theirs["b"]
torch_loss = -torch.log(torch.sigmoid(z))
torch_loss.backward()

print(f"loss {loss.value:.6f}, autograd {torch_loss.item():.6f}\n")
print("      ours       autograd")
for name in values:
    print(f"{name:3}  {ours[name].gradient:+.6f}  {theirs[name].grad.item():+.6f}")
    assert abs(ours[name].gradient - theirs[name].grad.item()) < 1e-12
assert abs(ours["w1"].gradient - (p.value - 1) * values["x1"]) < 1e-12

# %% [markdown]
# ## A number that is used twice
#
# If a number is used twice, the gradients of both paths are summed. So `backward` adds to the gradient
# (`+=`), and the order matters: a node must receive the gradients of all its uses before it passes its
# own gradient to its parents.

# %%
a = Scalar(3.0)
square = a * a
(square * square + a).backward()  # a^4 + a, derivative 4 a³ + 1
print(f"d(a^4 + a)/da at 3: {a.gradient:.0f}")
assert a.gradient == 4 * 3**3 + 1

# %% [markdown]
# ## Comparison with finite differences
#
# Finite differences check a gradient without any theory: change the input a little and measure how the
# output changes. New layers are tested this way. The change must not be too large (the curve bends) or
# too small (floating point runs out of digits). The plot shows the best range between the two.


# %%
def relative_error(function: Callable[[Scalar], Scalar], at: float, step: float) -> float:
    """Relative error of (f(x + h) - f(x - h)) / 2h, compared with the engine's derivative."""
    point = Scalar(at)
    function(point).backward()
    difference = (function(Scalar(at + step)).value - function(Scalar(at - step)).value) / (2 * step)
    return abs(difference - point.gradient) / abs(point.gradient)


steps = [10.0**-k for k in range(1, 15)]
errors = [max(relative_error(lambda s: (s * s).exp(), 0.8, step), 1e-17) for step in steps]
figure, axes = plt.subplots()
axes.plot(steps, errors, "o-")
axes.set(title="Finite differences and the exact derivative", xlabel="step", ylabel="relative error")
axes.set(xscale="log", yscale="log")
plt.show()
best = min(errors)
print(f"smallest relative error {best:.1e}, at a step of {steps[errors.index(best)]:.0e}")
assert best < 1e-9
assert errors[0] > 1e-3
assert errors[-1] > 1e-5

# %% [markdown]
# ## Training with the engine
#
# The engine can train a network with three inputs, four hidden units and one output. The task is: is
# exactly one of the first two inputs 1? A single line cannot separate the cases. Autograd trains the
# same weights for comparison.

# %%
generator = torch.Generator().manual_seed(15)
shapes = {"w": (4, 3), "b": (4,), "v": (4,), "c": (1,)}
start = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
cases = [((0.0, 0.0, 1.0), 0.0), ((1.0, 0.0, 1.0), 1.0), ((0.0, 1.0, 1.0), 1.0), ((1.0, 1.0, 1.0), 0.0)]


def train_with_engine(steps: int, rate: float) -> list[float]:
    """The loss before each step, with the scalar engine."""
    w = [[Scalar(value) for value in row] for row in start["w"].tolist()]
    b, v, c = ([Scalar(value) for value in start[name].tolist()] for name in "bvc")
    weights = [*(s for row in w for s in row), *b, *v, *c]
    losses = []
    for _ in range(steps):
        total = Scalar(0.0)
        for inputs, label in cases:
            z = c[0]
            for row, offset, out in zip(w, b, v, strict=True):
                hidden = offset
                for weight, value in zip(row, inputs, strict=True):
                    hidden = hidden + weight * Scalar(value)
                z = z + out * hidden.relu()
            sign = Scalar(-1.0 if label else 1.0)  # -ln p for a positive, -ln (1 - p) for a negative
            total = total + (Scalar(1.0) + (sign * z).exp()).log()
        for weight in weights:
            weight.gradient = 0.0
        total.backward()
        for weight in weights:
            weight.value -= rate * weight.gradient
        losses.append(total.value)
    return losses


def train_with_autograd(steps: int, rate: float) -> list[float]:
    """The loss before each step, with autograd."""
    weights = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    inputs = torch.tensor([case for case, _ in cases], dtype=torch.float64)
    labels = torch.tensor([label for _, label in cases], dtype=torch.float64)
    losses = []
    for _ in range(steps):
        z = torch.relu(inputs @ weights["w"].T + weights["b"]) @ weights["v"] + weights["c"]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), gradients, strict=True):
                weight -= rate * gradient
        losses.append(loss.item())
    return losses


STEPS = place.choose(full=400, small=120)
engine_losses, autograd_losses = train_with_engine(STEPS, 0.2), train_with_autograd(STEPS, 0.2)
figure, axes = plt.subplots()
axes.plot(engine_losses, label="the scalar engine")
axes.plot(autograd_losses, "--", label="autograd")
axes.set(title="The same training twice", xlabel="step", ylabel="loss, sum of four cases")
axes.legend()
plt.show()
largest = max(abs(a - b) for a, b in zip(engine_losses, autograd_losses, strict=True))
print(f"loss {engine_losses[0]:.3f} -> {engine_losses[-1]:.3f}; largest difference {largest:.1e}")
assert largest < 1e-8
assert engine_losses[-1] < engine_losses[0] / 5

# %% [markdown]
# PyTorch adds scale: its nodes hold tensors instead of numbers, so one node does millions of
# multiplications. The bookkeeping is the same.
