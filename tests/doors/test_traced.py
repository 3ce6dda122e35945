"""What Python changes in the forward of a model that is split, and the loss that a model returns: kept, refused or said."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import antiphon
from antiphon import ScenarioError, Simulation
from antiphon.errors import ScenarioWarning

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
LABEL = torch.randint(3, (40,), generator=torch.Generator().manual_seed(1))
ENV = antiphon.envs.from_tensors(x=X, label=LABEL)
SGD = {"kind": "sgd", "lr": 0.1}
CALLS = {"count": 0, "scale": 1.0}
Forward = Callable[[Any, Tensor], Tensor]


class Steep(torch.autograd.Function):
    """A power whose gradient is another function's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, power: float) -> Tensor:
        ctx.save_for_backward(x)
        return x**power

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0].cos(), None


class Flat(torch.autograd.Function):
    """Numbers that depend on no input, whose gradient does; its context is set up apart."""

    @staticmethod
    def forward(x: Tensor, scale: float = 2.0) -> Tensor:
        return torch.full_like(x, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0], None


flat = Flat.apply


class Model(nn.Module):
    """Two layers, and what a test does between them."""

    calls = 0

    def __init__(self, between: Forward) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Linear(6, 8), nn.Linear(8, 3), between
        self.tau, self.step, self.history, self.cache = 1.0, 0, [], {}
        self.previous: Tensor | None = None
        self.function = flat
        self.config = SimpleNamespace(tau=1.0)
        self.random = random.Random(0)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        return self.b(self.between(self, self.a(x)))


def annealed(self: Model, h: Tensor) -> Tensor:
    self.tau *= 0.5
    return h * self.tau


def warmed_up(self: Model, h: Tensor) -> Tensor:
    self.step += 1
    return h * 2 if self.step > 1000 else h


def trained_alone(self: Model, h: Tensor) -> Tensor:
    if self.training:
        self.step += 1
    return h * (1 + 0.1 * self.step)


def growing(self: Model, h: Tensor) -> Tensor:
    self.history.append(1)
    return h / len(self.history)


def cached(self: Model, h: Tensor) -> Tensor:
    self.cache[len(self.cache)] = 1
    return h * len(self.cache)


def nested(self: Model, h: Tensor) -> Tensor:
    self.config.tau *= 0.9
    return h * self.config.tau


def delayed(self: Model, h: Tensor) -> Tensor:
    before, self.previous = self.previous, h
    return h if before is None else h + before


def by_class(self: Model, h: Tensor) -> Tensor:
    Model.calls += 1
    return h * Model.calls


def by_global(self: Model, h: Tensor) -> Tensor:
    CALLS["scale"] *= 0.5
    return h * CALLS["scale"]


def teacher_forced(self: Model, h: Tensor) -> Tensor:
    return h * 2 if random.random() < 0.5 else h


def by_numpy(self: Model, h: Tensor) -> Tensor:
    return h * float(np.random.rand())


def own_generator(self: Model, h: Tensor) -> Tensor:
    return h * self.random.random()


def by_time(self: Model, h: Tensor) -> Tensor:
    return h * (time.perf_counter_ns() % 1000003)


def of_another(self: Model, h: Tensor) -> Tensor:
    self.b.scale = getattr(self.b, "scale", 1.0) * 0.5
    return h * self.b.scale


def averaged(self: Model, h: Tensor) -> Tensor:
    with torch.no_grad():
        for p in self.a.parameters():
            p.mul_(0.5)
    return h


REFUSED: dict[str, tuple[Forward, str]] = {
    "annealed": (annealed, "the attribute 'tau'"),
    "warmed up": (warmed_up, "the attribute 'step'"),
    "in training": (trained_alone, "the attribute 'step'"),
    "a list": (growing, "the attribute 'history'"),
    "a dict": (cached, "the attribute 'cache'"),
    "an object": (nested, "the attribute 'config'"),
    "a call before": (delayed, "the attribute 'previous'"),
    "a class": (by_class, "calls'"),
    "a global": (by_global, "'CALLS'"),
    "Python's random": (teacher_forced, "Python's random numbers"),
    "numpy's random": (by_numpy, "numpy's random numbers"),
    "a generator": (own_generator, "the attribute 'random'"),
    "time": (by_time, "other results when it is called again"),
    "parameters": (averaged, "the parameter 'a.weight'"),
    "another module's": (of_another, "the attribute 'b.scale'"),
}


def split(model: nn.Module, **settings: Any) -> antiphon.Scenario:
    how = {"env": ENV, "coupling": "locked", "batch": 8, "optimiser": SGD}
    return antiphon.split(model, at=["b"], **(how | settings))


@pytest.mark.parametrize("name", REFUSED)
def test_what_python_changes_in_a_traced_forward_is_refused_by_name(name: str) -> None:
    forward, expected = REFUSED[name]
    before = random.getstate()
    with pytest.raises(ScenarioError, match=expected) as refused:
        split(Model(forward))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("split: Model.forward ")
    assert "submodule" in str(refused.value)
    assert random.getstate() == before


def counted(self: Model, h: Tensor) -> Tensor:
    self.step += 1
    self.history.append(h)
    self.last = h
    return h


def filled_once(self: Model, h: Tensor) -> Tensor:
    if "scale" not in self.cache:
        self.cache["scale"] = 2.0
    return h * self.cache["scale"]


def annealed_buffer(self: Model, h: Tensor) -> Tensor:
    self.count.add_(1)
    return h * 0.9**self.count


def own_backwards(self: Model, h: Tensor) -> Tensor:
    """An autograd function twice, another one by a name of its own, and a third kept by the model."""
    return Steep.apply(Steep.apply(h, 2.0) + flat(h, scale=3.0), 3.0) + self.function(h)


def counted_buffer(self: Model, h: Tensor) -> Tensor:
    self.count += 1
    return h * 0.9**self.count


class Behind(Model):
    """Calls an autograd function behind the cut, with what nothing else reads there."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        slope = h.sin()
        return self.b(h) + flat(slope)[:, :3]


def behind(self: Model, h: Tensor) -> Tensor:
    raise NotImplementedError


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "forward", [counted, filled_once, annealed_buffer, counted_buffer, own_backwards, behind]
)
def test_what_has_no_effect_and_buffers_in_place_train_like_a_loop(forward: Forward) -> None:
    model = (Behind if forward is behind else Model)(forward).double()
    loop = copy.deepcopy(model)
    optimiser = torch.optim.SGD(loop.parameters(), lr=0.1)
    with Simulation(split(model), dtype=torch.float64) as run:
        for _ in range(3):
            batch = {name: value.clone() for name, value in run.signals.items()}
            run.step()
            optimiser.zero_grad()
            cross_entropy(loop(batch["x"]), batch["label"]).backward()
            optimiser.step()
        joined = antiphon.join(run)
    torch.testing.assert_close(joined.state_dict(), loop.state_dict(), atol=1e-12, rtol=0)


class Losses(Model):
    """Computes a loss of its own."""

    def __init__(self, returned: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__(lambda self, h: h)
        self.returned = returned

    def forward(self, x: Tensor, targets: Tensor) -> Any:
        return self.returned(super().forward(x), targets)


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str | int, str | None]] = {
    "a tuple": (lambda y, t: (y, cross_entropy(y, t, label_smoothing=0.3)), 0, "1"),
    "a dict": (lambda y, t: {"loss": cross_entropy(y, t), "logits": y}, "logits", "'loss'"),
    "per sample": (lambda y, t: (y, cross_entropy(y, t, reduction="none")), 0, "1"),
    "a penalty": (lambda y, t: (y, y.square().mean()), 0, "1"),
    "no loss": (lambda y, t: (y, y.softmax(1), y.argmax(1)), 0, None),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_loss_that_a_model_returns_is_said_to_be_dropped(name: str) -> None:
    returned, output, dropped = OUTPUTS[name]
    inputs = {"x": "x", "targets": "label"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split(Losses(returned), output=output, inputs=inputs)
        objectives = {output: "label"} | ({} if dropped is None else {dropped.strip("'"): None})
        if dropped is not None:
            named = {int(key) if str(key).isdigit() else key: goal for key, goal in objectives.items()}
            split(Losses(returned), objectives=named, inputs=inputs)
    lines = [str(w.message) for w in caught if issubclass(w.category, ScenarioWarning)]
    assert len(lines) == (dropped is not None)
    if dropped is not None:
        assert lines[0].startswith(
            f"split: forward also returns {dropped}, a loss of its own, which is dropped"
        )
        assert ("objective=" in lines[0]) is (name != "a penalty"), "which is not computed from the target"


LEFT: dict[str, tuple[Callable[[Any, Tensor], Any], bool]] = {
    "a loss": (lambda layer, y: y.square().mean(), True),
    "a list of losses": (lambda layer, y: [y.square().mean(), y.abs().mean()], True),
    "what is used": (lambda layer, y: layer.weight.square().mean(), False),
    "without a gradient": (lambda layer, y: y.square().mean().detach(), False),
    "as many as samples": (lambda layer, y: y.mean(1), False),
}


class Leaving(nn.Linear):
    """Leaves something in an attribute, as mixtures of experts do with their losses."""

    def __init__(self, name: str) -> None:
        super().__init__(3, 3)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.left = LEFT[self.name][0](self, y)
        return y * self.left if "used" in self.name else y


@pytest.mark.parametrize("name", LEFT)
def test_a_loss_that_a_model_leaves_in_an_attribute_is_said_to_be_dropped(name: str) -> None:
    env = antiphon.envs.from_tensors(x=torch.rand(8, 3), label=torch.arange(8) % 3)
    model = nn.Sequential(nn.Linear(3, 3), Leaving(name), nn.Linear(3, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        antiphon.split(model, at=[2], env=env, batch=4)
    lines = [str(w.message) for w in caught if issubclass(w.category, ScenarioWarning)]
    assert len(lines) == LEFT[name][1]
    if lines:
        assert lines[0].startswith("split: forward leaves a number with a gradient in '1.left', which no ")


class Kept:
    """The objective of an output that is a loss per sample, as the warning has it."""

    def size(self, shape: tuple[int, ...], classes: int | None) -> int:
        return 1

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return output[:, 0]


@pytest.mark.long
def test_a_loss_of_what_a_model_keeps_to_itself_is_learned_as_the_warning_says() -> None:
    """As the commitment loss of a VQ-VAE is."""
    inputs = {"x": "x", "targets": "label"}
    with pytest.warns(
        ScenarioWarning, match=r"return it per sample, \[batch\], and give objectives=\{0: 'label', 1: "
    ):
        split(Losses(lambda y, t: (y, y.square().mean())), output=0, inputs=inputs)
    model = Losses(lambda y, t: (y, y.square().mean(1))).double()
    loop = copy.deepcopy(model)
    optimiser = torch.optim.SGD(loop.parameters(), lr=0.1)
    objectives = {0: "label", 1: {"kind": Kept, "target": "label"}}
    with Simulation(split(model, objectives=objectives, inputs=inputs), dtype=torch.float64) as run:
        batch = {name: value.clone() for name, value in run.signals.items()}
        run.step()
        output, loss = loop(batch["x"], batch["label"])
        (cross_entropy(output, batch["label"]) + loss.mean()).backward()
        optimiser.step()
        joined = antiphon.join(run)
    torch.testing.assert_close(joined.state_dict(), loop.state_dict(), atol=1e-12, rtol=0)


def test_a_model_that_returns_its_loss_alone_is_refused_with_the_way_out() -> None:
    with pytest.raises(ScenarioError, match=r"return the prediction, and give the loss as `objective`"):
        split(Losses(lambda y, t: cross_entropy(y, t)), inputs={"x": "x", "targets": "label"})
