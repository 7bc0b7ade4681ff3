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
# # Linear regression from scratch in PyTorch
#
# Before a network with eleven million weights, this notebook fits one with two. It draws points around
# a known line and recovers the line by gradient descent: first with manual gradients, then with
# PyTorch's autograd, then with PyTorch's own layer, loss and optimizer. All three take the same steps.
# The last is only shorter to write.

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

torch.manual_seed(0)
TRUE_SLOPE, TRUE_OFFSET, NOISE = 1.8, -0.7, 0.4

x = torch.linspace(-2, 2, 120, dtype=torch.float64)
y = TRUE_SLOPE * x + TRUE_OFFSET + NOISE * torch.randn(120, dtype=torch.float64)

# %% [markdown]
# ## Manual gradients
#
# The model is $\hat y = w x + b$, the loss the mean of $(\hat y - y)^2$. Its derivatives are
#
# $$\frac{\partial L}{\partial w} = \frac{2}{n}\sum_i (\hat y_i - y_i)\, x_i \qquad
# \frac{\partial L}{\partial b} = \frac{2}{n}\sum_i (\hat y_i - y_i)$$
#
# Each step moves against the gradient, scaled by the learning rate.

# %%
LEARNING_RATE, STEPS = 0.1, 60


def with_manual_gradients() -> tuple[list[float], list[tuple[float, float]]]:
    """The loss before each step, and slope and offset after it."""
    w = b = torch.zeros((), dtype=torch.float64)
    losses, path = [], []
    for _ in range(STEPS):
        error = w * x + b - y
        losses.append((error**2).mean().item())
        w = w - LEARNING_RATE * 2 * (error * x).mean()
        b = b - LEARNING_RATE * 2 * error.mean()
        path.append((w.item(), b.item()))
    return losses, path


manual_losses, manual_path = with_manual_gradients()

# %% [markdown]
# ## With autograd
#
# `requires_grad=True` makes PyTorch record every operation. `backward()` follows the record in reverse
# and stores the derivative of the loss in `.grad`. It *adds* to the value already there, so the
# gradient must be reset before each step. Forgetting this is the classic first bug.


# %%
def with_autograd() -> list[tuple[float, float]]:
    """Slope and offset after each step."""
    w = torch.zeros((), dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    path = []
    for _ in range(STEPS):
        w.grad = b.grad = None
        loss = ((w * x + b - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():  # the step is not part of the differentiated function
            w -= LEARNING_RATE * w.grad
            b -= LEARNING_RATE * b.grad
        path.append((w.item(), b.item()))
    return path


# %% [markdown]
# ## With a layer, a loss and an optimizer
#
# `nn.Linear` holds the two weights, `nn.MSELoss` the formula, `SGD` the step. Every training loop has
# this shape, including Hilum's `TrainingLoop`: reset the gradients, forward, loss, backward, step.


# %%
def with_modules() -> list[tuple[float, float]]:
    """Slope and offset after each step."""
    net = nn.Linear(1, 1, dtype=torch.float64)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    path = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x[:, None]), y[:, None]).backward()
        optimizer.step()
        path.append((net.weight.item(), net.bias.item()))
    return path


autograd_path, module_path = with_autograd(), with_modules()
for manual, autograd, module in zip(manual_path, autograd_path, module_path, strict=True):
    assert all(abs(a - c) < 1e-12 for a, c in zip(manual, autograd, strict=True))
    assert all(abs(a - c) < 1e-12 for a, c in zip(manual, module, strict=True))
print(f"All three versions agree in all {STEPS} steps.")

# %% [markdown]
# ## Is it the right line?
#
# For linear regression, a formula gives the best line (least squares), so the result of gradient
# descent can be checked. With a sample of 120 noisy points around the true line, the standard error of
# the slope is about $\sigma / \sqrt{\sum_i (x_i - \bar x)^2}$.

# %%
design = torch.stack([x, torch.ones_like(x)], dim=1)
best_slope, best_offset = torch.linalg.lstsq(design, y[:, None]).solution.ravel().tolist()
slope, offset = manual_path[-1]
standard_error = NOISE / ((x - x.mean()) ** 2).sum().sqrt().item()
print(f"gradient descent  y = {slope:.4f} x {offset:+.4f}")
print(f"least squares     y = {best_slope:.4f} x {best_offset:+.4f}")
print(
    f"the truth         y = {TRUE_SLOPE:.4f} x {TRUE_OFFSET:+.4f}   (slope within +-{2 * standard_error:.2f})"
)

assert abs(slope - best_slope) < 1e-4
assert abs(offset - best_offset) < 1e-4
assert abs(slope - TRUE_SLOPE) < 3 * standard_error

# %%
figure, (points, losses) = plt.subplots(1, 2, figsize=(10, 3.8))
points.scatter(x, y, s=12, color="#8a94a0", label="data")
for step in (0, 2, 5, 59):
    w, b = manual_path[step]
    points.plot(x, w * x + b, color="C0", alpha=0.25 + 0.75 * (step + 1) / 60, lw=1.5)
points.plot(x, TRUE_SLOPE * x + TRUE_OFFSET, "--", color="C1", label="the true line")
points.set(title="The line after 1, 3, 6 and 60 steps", xlabel="x", ylabel="y")
points.legend()
losses.plot(manual_losses)
losses.axhline(NOISE**2, ls="--", color="C1", label="variance of the noise (lowest possible loss)")
losses.set(title="The loss", xlabel="step", ylabel="mean squared error", yscale="log")
losses.legend()
plt.show()

# %% [markdown]
# ## The learning rate
#
# A learning rate that is too small changes almost nothing. One that is too large makes each step
# overshoot. For this loss the limit is known: the error grows once the rate exceeds $2 / \lambda$,
# where $\lambda$ is the largest curvature (the largest eigenvalue of the Hessian). For a deep network
# this number is unknown, so `hilum` can search for a learning rate.

# %%
curvature = torch.linalg.eigvalsh(2 * design.T @ design / len(x)).max().item()


def loss_after(rate: float, steps: int = 30) -> float:
    """The mean squared error after gradient descent with this learning rate."""
    weights = torch.zeros(2, dtype=torch.float64)
    for _ in range(steps):
        weights = weights - rate * 2 * design.T @ (design @ weights - y) / len(x)
    return ((design @ weights - y) ** 2).mean().item()


rates = torch.logspace(-4, 0, 80).tolist()
losses_by_rate = [loss_after(rate) for rate in rates]
figure, axes = plt.subplots()
axes.plot(rates, losses_by_rate)
axes.axvline(2 / curvature, ls="--", color="C1", label=f"2 / curvature = {2 / curvature:.2f}")
axes.set(
    title="After 30 steps", xlabel="learning rate", ylabel="loss", xscale="log", yscale="log", ylim=(0.1, 1e4)
)
axes.legend()
plt.show()

start = (y**2).mean().item()
assert loss_after(0.98 * 2 / curvature) < start < loss_after(1.1 * 2 / curvature)
