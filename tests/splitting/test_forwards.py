"""What a forward may do: the parts are the model, or one line says what is not kept; what cannot be split or joined."""

from __future__ import annotations

import math
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import antiphon
from antiphon import RunError, ScenarioError, Simulation, split
from tests.engine.numbers import one_line
from tests.kit.tensors import same
from tests.kit.tiers import sampled
from tests.splitting.models import ARCHITECTURES, numbers
from tests.splitting.parts import Chain, assert_composed, chain_split, composed, pictures, split_of


class Rounded(torch.autograd.Function):
    """Rounds, and passes gradients straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


rounded = Rounded.apply


def drop_path(self: Chain, h: Tensor) -> Tensor:
    y = self.second(h)
    keep = y.new_empty((y.shape[0],) + (1,) * (y.ndim - 1)).bernoulli_(0.5)
    keep.div_(0.5)
    return h + y * keep


def written_behind(self: Chain, h: Tensor) -> Tensor:
    h = h + 0
    y = self.second(h * 1)
    h.mul_(2.0)
    return y + h


NUMPY = torch.arange(7.0).numpy()
KEPT: dict[str, Callable[[Any, Tensor], Any]] = {
    "devices": lambda self, h: self.second(h) + torch.zeros(h.size(0), 7, device=h.device, dtype=h.dtype),
    "sizes": lambda self, h: self.second(h) * math.sqrt(h.shape[-1]) / len(h.shape),
    "an order by arange": lambda self, h: self.second(h[torch.arange(h.shape[0])]),
    "unbind": lambda self, h: self.second(torch.stack([column * 2 for column in h.unbind(1)], 1)),
    "a loop over sizes": lambda self, h: self.second(sum(h.roll(i, 1) for i in range(h.shape[1]))),
    "a branch on sizes": lambda self, h: self.second(h) if any(size > 3 for size in h.shape[1:]) else h,
    "a print": lambda self, h: (f"{h.shape} {h}", self.second(h))[1],
    "a comparison": lambda self, h: self.second(h * (h > 0)),
    "statistics of the batch": lambda self, h: self.second((h - h.mean(0)) / h.std(0)),
    "a constant tensor": lambda self, h: self.second(h) * torch.tensor([1.0, 2, 3, 4, 5, 6, 7]),
    "from numpy": lambda self, h: self.second(h) * torch.from_numpy(NUMPY),
    "random integers": lambda self, h: self.second(h)[:, torch.randint(0, 7, (7,))],
    "noise": lambda self, h: self.second(h + torch.randn_like(h)) + torch.rand(h.shape[0], 1),
    "dropout": lambda self, h: self.second(F.dropout(h, 0.5, self.training)),
    "dropout in both modes": lambda self, h: self.second(F.dropout(h, 0.2)),
    "drop path": drop_path,
    "a module made on the way": lambda self, h: nn.Sequential(self.second, nn.ReLU())(nn.Tanh()(h)),
    "detach": lambda self, h: self.second(h.detach()) + h,
    "a checkpoint": lambda self, h: checkpoint(self.second, h, use_reentrant=False),
    "straight through": lambda self, h: self.second(h + (h.round() - h).detach()),
    "an autograd function": lambda self, h: self.second(Rounded.apply(h)),
    "in place": lambda self, h: self.second((h + 0).mul_(2.0)) + h,
    "a write behind a cut": written_behind,
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", sampled(KEPT, 2, "nightly"))
def test_what_is_kept(name: str) -> None:
    for at in (("second",), ("third",)):
        assert_composed(Chain(KEPT[name]), at)


# --- what is not kept --------------------------------------------------------------------------------------


def without_gradient(self: Chain, h: Tensor) -> Tensor:
    with torch.no_grad():
        h = self.second(h)
    return h


def autocast(self: Chain, h: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return self.second(h).float()


def doubled_gradient(self: Chain, h: Tensor) -> Tensor:
    if h.requires_grad:
        h.register_hook(lambda gradient: gradient * 2)
    return self.second(h)


def mode_of_calls(self: Chain, h: Tensor) -> Tensor:
    return self.second(h * 0.5 if self.training else h)


def annealed(self: Chain, h: Tensor) -> Tensor:
    if self.training:
        self.tau *= 0.5
    return self.second(h * self.tau)


def replaced_buffer(self: Chain, h: Tensor) -> Tensor:
    self.count = self.count + 1
    return self.second(h)


def classes_cross(self: Chain, h: Tensor) -> Tensor:
    best = h.argmax(1, keepdim=True)
    return self.second(h).gather(1, best) + h


def centred(self: Chain, h: Tensor) -> Tensor:
    centre = h.mean(0)
    return self.second(h) - centre


SUBMODULE = "put those lines into a submodule of their own, or give an nn.Sequential"
OTHER = f"a trace keeps no attribute .*; {SUBMODULE}"
HERE = r"test_forwards\.py:\d+"
REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "a branch": (
        lambda self, h: self.second(h if h.sum() > 0 else -h),
        rf"cannot be traced .*{HERE}.*{SUBMODULE}",
    ),
    "a branch on the batch": (
        lambda self, h: self.second(h if h.size(0) > 3 else -h),
        f"compute other results .*{OTHER}",
    ),
    "a scale by the batch": (
        lambda self, h: self.second(h) * h.size(0) ** 0.5,
        f"compute other results .*{OTHER}",
    ),
    "a size by the batch": (
        lambda self, h: self.second(torch.cat([h] * (2 if h.size(0) == 3 else 1))),
        f"compute other results .*{OTHER}",
    ),
    "a loop over the batch": (
        lambda self, h: self.second(torch.stack([row * 2 for row in h])),
        "another batch size.*",
    ),
    "its mode": (mode_of_calls, rf"other calls in training than in evaluation.* at .*{HERE}"),
    "an attribute": (annealed, "other results than the model in training"),
    "no gradient": (without_gradient, f"give 'first.weight' another gradient than the model: {OTHER}"),
    "another precision": (autocast, f"compute other results than the model: {OTHER}|by .*{OTHER}"),
    "a hook of an activation": (
        doubled_gradient,
        f"give 'first.weight' another gradient than the model: {OTHER}",
    ),
    "an autograd function by another name": (lambda self, h: self.second(rounded(h)), "another gradient"),
    "a buffer": (replaced_buffer, f"leave another 'count' than the model: {OTHER}"),
    "no batch": (centred, rf"'mean' \({HERE}\) crosses from part 0 .*float32 \[7\].*move the cut"),
    "classes cross": (classes_cross, "'argmax' .*int64"),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_kept_is_refused(name: str) -> None:
    between, line = REFUSED[name]
    model = Chain(between)
    model.register_buffer("count", torch.zeros(()))
    model.tau = 1.0
    with pytest.raises(ScenarioError, match=f"^split: .*({line})"):
        chain_split(model)


class Telling(nn.Linear):
    """Leaves another layer a gain, in a list that no copy of a part follows."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__(7, 7)
        self.others = [other]

    def forward(self, x: Tensor) -> Tensor:
        self.others[0].gain = 1 + super().forward(x).square().mean()
        return super().forward(x)


class Gained(nn.Linear):
    """Multiplies by what it is left."""

    gain: Any = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


def test_what_reaches_another_layer_beside_the_forward_is_refused() -> None:
    model: Any = Chain()
    model.third = Gained(7, 5)
    model.second = Telling(model.third)
    with pytest.raises(ScenarioError, match="the parts compute other results than the model"):
        chain_split(model, ("third",))


# --- modules, modes and precision --------------------------------------------------------------------------


def test_a_module_that_is_called_twice_is_cut_before_its_first_call() -> None:
    model = Chain(lambda self, h: self.second(torch.relu(self.second(h))))
    assert len(assert_composed(model, ("second",)).agents) == 2
    on_both_sides = assert_composed(Chain(lambda self, h: self.first(self.second(h))), ("second",))
    assert on_both_sides.share[0] == ("part0.module.first.weight", "part1.module.first.weight")


def test_a_model_in_eval_mode_trains_in_train_mode_and_comes_back_in_its_own() -> None:
    mlp = ARCHITECTURES["mlp"]
    model = mlp.model(dropout=0.5).eval()
    scenario = split_of(mlp, ("layers.1",), model)
    arguments = mlp.example(3)
    assert not torch.equal(*(composed(scenario, arguments, training=True) for _ in range(2)))
    with Simulation(scenario) as run:
        joined = antiphon.join(run)
    assert not any(module.training for module in joined.modules())
    same(joined(**arguments), model(**arguments))


# --- arguments and outputs ---------------------------------------------------------------------------------


@dataclass
class Output:
    """What a model of a library returns."""

    logits: Tensor
    hidden: Tensor


Pair = namedtuple("Pair", ["logits", "hidden"])
ANSWERS: list[tuple[Callable[[Tensor, Tensor], Any], tuple[Any, ...]]] = [
    (lambda y, h: Output(y, h), ("logits",)),
    (lambda y, h: OrderedDict(logits=y, hidden=h), ("logits",)),
    (lambda y, h: UserDict(logits=y, hidden=h), ("logits",)),
    (lambda y, h: Pair(y, h), (0, "logits")),
    (lambda y, h: [h, y], (1,)),
    (lambda y, h: (y, None, 3, "text"), (None, 0)),
]


class Answering(Chain):
    def __init__(self, answer: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        return self.answer(self.third(self.second(h)), h)


@pytest.mark.cases(2)
@pytest.mark.parametrize(("answer", "outputs"), ANSWERS)
def test_the_prediction_is_found_among_the_outputs(
    answer: Callable[[Tensor, Tensor], Any], outputs: tuple[Any, ...]
) -> None:
    x, model = numbers(7)(3, 0), Answering(answer)
    for output in outputs:
        found = composed(chain_split(model, output=output), {"x": x}, training=False)
        same(found, model.third(model.second(model.first(x))))


# --- what cannot be split or joined ----------------------------------------------------------------------


class Wide(Chain):
    """Returns three values more than there are classes."""

    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return torch.cat([y, y[:, :3]], 1)


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "no such submodule": (
        lambda: chain_split(Chain(), ("secnd",)),
        "at: no submodule 'secnd'; did you mean 'second'",
    ),
    "no such position": (
        lambda: split(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), [9], env=pictures()),
        "at: no submodule 9",
    ),
    "no list": (lambda: chain_split(Chain(), "second"), "at: 'second'; give names of submodules"),
    "too many parts": (lambda: chain_split(Chain(), 50), "at=50: Chain can be cut at 2 places"),
    "not called": (
        lambda: split_of(ARCHITECTURES["fine_tuned"], ["old_head"]),
        "at: forward calls no submodule 'old_head'",
    ),
    "a list of modules": (
        lambda: split_of(ARCHITECTURES["mlp"], ["layers"]),
        ".*'layers'; cut before 'layers.0'",
    ),
    "nothing before a cut": (
        lambda: chain_split(Chain(), ("first",)),
        r"part 0 \(before 'first'\) computes nothing",
    ),
    "several inputs": (
        lambda: split(ARCHITECTURES["film"].model(), ["time"], env={"id": "antiphon/Digits-v0"}),
        r"Film.forward takes x, t, strength; give inputs=\{'x'",
    ),
    "no such argument": (
        lambda: chain_split(Chain(), inputs={"y": "x", "x": "x"}),
        "inputs: forward has no argument 'y'",
    ),
    "no such signal": (
        lambda: chain_split(Chain(), inputs={"x": "xs"}),
        "inputs: no signal 'xs'; did you mean 'x'",
    ),
    "a width that is not the data's": (
        lambda: split(nn.Sequential(nn.Flatten(), nn.Linear(60, 10)), ["1"], env=pictures()),
        r"Sequential.forward cannot be traced \(.*shapes cannot be multiplied",
    ),
    "no environment": (lambda: chain_split(Chain(), env=None), "env: is missing; pass an environment"),
    "no such target": (
        lambda: chain_split(Chain(), objective="labl"),
        "objective: no signal 'labl'; did you mean 'label'",
    ),
    "too many values": (
        lambda: chain_split(Wide()),
        r"forward returns a tensor \[5, 8\], and the objective needs 5 values",
    ),
    "no such output": (
        lambda: chain_split(Chain(), output="logits"),
        "forward returns a tensor .* output 'logits' is none",
    ),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_split_is_one_line(name: str) -> None:
    attempt, expected = CASES[name]
    with one_line(f"split: {expected}"):
        attempt()


def test_what_cannot_be_joined_is_one_line() -> None:
    with Simulation("digits-mlp") as run, one_line("join: .*was not made by antiphon.split", RunError):
        antiphon.join(run)
