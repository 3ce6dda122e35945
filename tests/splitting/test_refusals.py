"""What cannot be split or joined is one line that names the place and what to do."""

from __future__ import annotations

import functools
import random
import sys
import threading
import warnings
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import antiphon
from antiphon import RunError, Scenario, Simulation, split
from antiphon.envs import from_tensors
from tests.engine.numbers import one_line
from tests.splitting.models import ARCHITECTURES, ResNet, UNet, numbers, tokens
from tests.splitting.parts import Chain, assert_composed, chain_split, pictures, split_of

# --- what a forward may not do -----------------------------------------------------------------------------


def loop(self: Chain, h: Tensor) -> Tensor:
    for _ in range(int(h.abs().sum())):
        h = h * 0.5
    return self.second(h)


def repeated_by_data(self: Chain, h: Tensor) -> Tensor:
    several = h.repeat_interleave((h[:, 0] > 0).long() + 1, dim=0)
    return self.second(h) if several.shape[0] > 3 else h


def check_of_numbers(self: Chain, h: Tensor) -> Tensor:
    assert not torch.isnan(h).any()
    return self.second(h)


def buffer_on_the_way(self: Chain, h: Tensor) -> Tensor:
    self.register_buffer("running", h.detach().mean(0))
    return self.second(h)


def depends_on_autograd(self: Chain, h: Tensor) -> Tensor:
    if h.requires_grad:
        h.register_hook(lambda gradient: gradient * 2)
    return self.second(h)


def mode_of_calls(self: Chain, h: Tensor) -> Tensor:
    if self.training:
        h = h * 0.5
    return self.second(h)


def without_gradient(self: Chain, h: Tensor) -> Tensor:
    with torch.no_grad():
        y = self.second(h)
    return h + y


def autocast(self: Chain, h: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return self.second(h).float()


def backend_of(tensor: Any) -> None:
    """What einops does, which is not installed here."""
    if type(tensor) is not Tensor:
        raise RuntimeError(f"Tensor type unknown {type(tensor)}")


def rearranged(self: Chain, h: Tensor) -> Tensor:
    names = {"__name__": "einops._backends", "__builtins__": __builtins__, "Tensor": Tensor}
    FunctionType(backend_of.__code__, names)(h)
    return self.second(h)


class Weighed(nn.Linear):
    """Leaves what it costs in an attribute, as layers of Bayesian networks do."""

    cost: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.cost = self.weight.square().mean()
        return super().forward(x)


class Telling(nn.Linear):
    """Keeps another layer in a list, and leaves it a gain, or calls it, also in training alone."""

    def __init__(self, other: nn.Module, how: str) -> None:
        super().__init__(7, 7)
        self.others, self.how = [other], how

    def forward(self, x: Tensor) -> Tensor:
        if "calls" in self.how and (self.training or "in training" not in self.how):
            found: Tensor = self.others[0](super().forward(x))
            return found
        if "tells" in self.how and (self.training or "in training" not in self.how):
            self.others[0].gain = 1 + super().forward(x).square().mean()
        return super().forward(x)


class Gained(nn.Linear):
    """Multiplies by what it is left."""

    gain: Any = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class Noisy(nn.Linear):
    """Draws random numbers, also in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + torch.rand(len(x), 1))


def telling(how: str) -> Any:
    model: Any = Chain()
    model.third = Gained(7, 5)
    model.fourth = nn.Linear(7, 7)  # of the model, not of the layer that calls it
    model.second = Telling(model.fourth if "calls" in how else model.third, how)
    if "noise" in how:
        model.first = Noisy(7, 7)
    return model.double() if "float64" in how else model


@pytest.mark.parametrize(
    "how",
    ["tells", "calls", "calls, float64", "tells in training", "calls in training", "tells in noise"],
)
def test_what_reaches_another_layer_beside_the_forward_is_refused(how: str) -> None:
    why = " in training" if "in training" in how else ""
    with one_line(f"split: the parts compute other results than the model{why}: .*attribute.*register"):
        chain_split(telling(how), ("third",))


class NoisyByNumpy(nn.Linear):
    """Draws numpy's and Python's random numbers, also in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + random.random() + float(np.random.rand()))


def test_a_layer_that_is_called_whole_may_draw_numbers_of_numpy_and_python() -> None:
    model: Any = Chain()
    model.second = NoisyByNumpy(7, 7)
    before = np.random.get_state(legacy=False), random.getstate()
    assert len(chain_split(model, ("third",)).agents) == 2
    np.testing.assert_equal(np.random.get_state(legacy=False), before[0])
    assert random.getstate() == before[1]


class Particular(nn.Linear):
    """Works in training with the parameters that it has, and with no others."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not torch.equal(self.weight, torch.ones_like(self.weight)):
            raise ValueError("not these")
        return super().forward(x)


def test_a_model_that_works_with_no_other_parameters_is_compared_with_its_own() -> None:
    model = telling("tells in training")
    model.first = Particular(*reversed(model.first.weight.shape))
    nn.init.ones_(model.first.weight)
    with one_line("split: the parts compute other results than the model in training: .*attribute"):
        chain_split(model, ("third",))


def memo(self: Chain, h: Tensor) -> Tensor:
    return self.second(h) * cost_of(self)


@functools.lru_cache
def cost_of(model: Any) -> Tensor:
    cost: Tensor = model.second.weight.square().mean()
    return cost


def memo_in_a_function(self: Chain, h: Tensor) -> Tensor:
    return self.second(nn.functional.linear(h, torch.eye(7) * cost_of(self)))


def memo_first(self: Chain, h: Tensor) -> Tensor:
    return self.second(cost_of(self) * h)


@pytest.mark.parametrize("between", [memo, memo_in_a_function, memo_first])
def test_a_value_that_is_kept_beyond_a_call_is_told_as_a_cache(between: Any) -> None:
    with one_line(f"split: forward reads a value .* earlier call computed, at {HERE}.*without a cache"):
        chain_split(Chain(between), ("third",))


def test_an_object_in_a_line_has_no_address() -> None:
    with one_line("split: inputs: <object object>; give"):
        chain_split(Chain(memo), ("third",), inputs=object())


def test_a_bare_error_of_a_forward_is_one_line() -> None:
    def between(self: Chain, h: Tensor) -> Tensor:
        if self.training:
            raise KeyError
        return self.second(h)

    with one_line(r"split: Chain.forward cannot be traced .*\(KeyError, at test_refusals"):
        chain_split(Chain(between), ("third",))


class Counted(nn.Linear):
    """Counts its calls in a buffer, which scales what it returns."""

    def __init__(self) -> None:
        super().__init__(7, 7)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls: Tensor
        self.calls += 1
        return super().forward(x) * self.calls


class Unlucky(nn.Linear):
    """Raises by chance in training: not at the trace, but with the numbers that nodes are compared with."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(()) > 0.7:
            raise ValueError("an unlucky number")
        return super().forward(x)


@pytest.mark.parametrize("kind", [Particular, Unlucky])
def test_a_model_that_raises_for_other_parameters_or_by_chance_is_split(kind: type[nn.Linear]) -> None:
    model: Any = Chain(lambda self, h: self.odd(self.second(h)))
    model.second, model.odd = Counted(), kind(7, 7)
    nn.init.ones_(model.odd.weight)
    assert len(chain_split(model, ("odd",)).agents) == 2


def test_a_layer_of_several_parts_may_keep_a_state_in_training() -> None:
    model: Any = Chain(lambda self, h: self.second(torch.tanh(self.second(h))))
    torch.nn.utils.parametrizations.spectral_norm(model.second)
    for buffer in model.second.buffers():  # each call in training improves them
        buffer.copy_(torch.eye(7)[0])
    assert len(chain_split(model, tie="together").agents) == 3


@pytest.mark.parametrize("name", ["graph", "meta", "origin", "own_type", "to_folder"])
def test_a_submodule_with_the_name_of_an_attribute_of_parts_is_refused(name: str) -> None:
    model: Any = Chain(lambda self, h: getattr(self, name)(h))
    setattr(model, name, nn.Linear(7, 7))
    with one_line(f"split: '{name}' is an attribute that every part has .*; give the model's another name"):
        chain_split(model, ("third",))


@pytest.mark.parametrize("name", ["in", 'a"b'])
def test_a_submodule_with_a_name_that_no_code_can_have_is_refused(name: str) -> None:
    model: Any = Chain(lambda self, h: self.branches[name](h))
    model.branches = nn.ModuleDict({name: nn.Linear(7, 7)})
    with one_line(f"split: 'branches.{name}' has {name!r} in its name, .*; give the model's another name"):
        chain_split(model, (f"branches.{name}",))


def test_of_many_parts_that_share_a_parameter_the_first_and_the_last_are_named() -> None:
    model = Chain(lambda self, h: self.second(self.second(self.second(self.second(h)))))
    with one_line(
        r"split: 'second.weight' in part1, part2, …, part4 \(and 1 more\): one parameter in several parts "
        r"\(a module called twice, .*\); move the cut, or give tie='together' \(kept equal\)"
    ):
        chain_split(model)


def test_what_a_layer_leaves_of_its_parameters_is_not_frozen_in() -> None:
    model: Any = Chain(lambda self, h: self.second(h) * (1 + self.second.cost))
    model.second = Weighed(7, 7)
    with one_line(
        "split: Chain.forward, traced, gives different results for other inputs and parameters; .*return what"
    ):
        chain_split(model, ("third",))


def cached(self: Chain, h: Tensor) -> Tensor:
    self.config = SimpleNamespace(use_cache=True)  # models of transformers have one
    if type(h) is not Tensor:
        raise NotImplementedError("argument of another type")
    return self.second(h)


HERE = r"test_refusals\.py:"


class Cube(torch.autograd.Function):
    """A function with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x**3


def hidden(function: Any) -> Any:
    """A function that calls another one, which no name of this module is."""
    return lambda h: function(h)


cube = hidden(Cube.apply)


def classes_cross(self: Chain, h: Tensor) -> Tensor:
    best = h.argmax(1, keepdim=True)
    return self.second(h).gather(1, best) + h


def over_the_batch(self: Chain, h: Tensor) -> Tensor:
    centre = h.mean(0)
    return self.second(h) - centre


FORWARDS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "a branch": (
        lambda self, h: self.second(h if h.sum() > 0 else -h),
        f"'gt'.*{HERE}.*depends on the data; put those lines into a submodule",
    ),
    "a loop": (loop, "'sum_1'.*depends on the data"),
    "repeats": (repeated_by_data, "'gt_1'.*depends on the data"),
    "a loop over the batch": (
        lambda self, h: self.second(torch.stack([row * 2 for row in h])),
        "another batch size.*a loop over it",
    ),
    "a size as int": (
        lambda self, h: self.second(h.view(int(h.shape[0]), 7)),
        r"'view' fails for another batch size.*int\(",
    ),
    "a branch on the batch": (
        lambda self, h: self.second(h) if h.size(0) > 2 else -self.second(h),
        "different results for another batch size",
    ),
    "a check of numbers": (check_of_numbers, f"'any_1' .a branch. at {HERE}"),
    "classes cross": (classes_cross, f"'argmax' .{HERE}.*torch.int64, which has no gradient"),
    "a buffer": (buffer_on_the_way, "assigns the buffer 'running'"),
    "autograd": (depends_on_autograd, f"needs the value of 'getattr_1' .a branch. at {HERE}"),
    "its mode": (mode_of_calls, "'mul'.*self.training.*a submodule of"),
    "no gradient": (without_gradient, "'second'.*torch.no_grad.*a submodule of"),
    "another precision": (autocast, "'second'.*torch.autocast.*a submodule of"),
    "no batch": (over_the_batch, "mean.*batch"),
    "a backward of its own": (
        lambda self, h: self.second(cube(h)),
        f"'pow_1' is computed by the autograd function Cube at {HERE}.*write Cube.apply",
    ),
    "einops": (rearranged, r'torch\.fx\.wrap\("rearrange"\)'),
    "a cache": (cached, "use_cache=False"),
    "both sides of a cut": (
        lambda self, h: self.first(self.second(h)),
        r"'first.weight' in part0, part1.*called twice.*tie='together'",
    ),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", FORWARDS)
def test_a_forward_that_cannot_be_cut_names_the_node_and_the_way_out(name: str) -> None:
    between, expected = FORWARDS[name]
    with one_line(f"split: .*{expected}"):
        chain_split(Chain(between))


# --- writing in place --------------------------------------------------------------------------------------


def written(self: Chain, h: Tensor) -> Tensor:
    y = self.second(h)
    h.mul_(2.0)
    return y + h


def written_through_a_view(self: Chain, h: Tensor) -> Tensor:
    tail = h[:, 1:]
    y = self.second(h)
    tail.zero_()
    return y + h


@pytest.mark.parametrize("between", [written, written_through_a_view])
@pytest.mark.parametrize("at", [("second",), ("second", "third")])
def test_a_write_in_place_keeps_the_model_s_numbers_or_names_the_tensor(
    between: Callable[[Chain, Tensor], Any], at: tuple[str, ...]
) -> None:
    """What a part writes to in place, another has made: the numbers are the model's, or the line says what to do."""
    try:
        chain_split(Chain(between), at)
        line = ""
    except antiphon.ScenarioError as error:
        line = str(error)
    if line:
        assert "\n" not in line
        assert "in place" in line or "in-place" in line
    else:
        assert_composed(Chain(between), at)


# --- what is no model to split -----------------------------------------------------------------------------


class TimeFirst(nn.Module):
    """[time, batch, features] between its layers, as recurrent models of old have it."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.rnn, self.out = nn.Linear(3, 4), nn.GRU(4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.inp(x).transpose(0, 1))
        return self.out(y)[-1]


def time_first() -> Scenario:
    env = antiphon.envs.from_tensors(x=numbers(6, 3)(20, 0), label=tokens(5)(20, 1))
    return split(TimeFirst(), at=["out"], env=env, inputs={"x": "x"}, objective="label")


class Loose(Chain):
    """Takes whatever comes."""

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        return super().forward(args[0] if args else kwargs["x"])


class Shared(Chain):
    """A parameter of its own that both sides of a cut read."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return self.third(self.second(self.first(x) * self.gain) * self.gain)


class Answers(Chain):
    """Returns what a test asks for."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(super().forward(x))


def changed(**attributes: Any) -> Chain:
    model = Chain()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def untraceable() -> Scenario:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    env = antiphon.envs.from_tensors(x=numbers(6, 8)(20, 0), y=numbers(6, 8)(20, 1))
    objective = {"kind": "regression", "target": "y"}
    model = nn.TransformerEncoder(layer, 3)
    return split(model, at=["layers.1"], inputs={"src": "x"}, env=env, objective=objective)


class Partly(Chain):
    """Hides a layer from optimisers, which its parts would train."""

    def named_parameters(self, *arguments: Any, **settings: Any) -> Any:
        named = super().named_parameters(*arguments, **settings)
        return ((name, p) for name, p in named if not name.startswith("first"))


DATA_PARALLEL = sys.modules["torch.nn.parallel.data_parallel"]
NEAREST = "such as 'first'"
MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "compiled": (lambda: chain_split(torch.compile(Chain())), "model is compiled.*_orig_mod"),
    "compiled within": (
        lambda: chain_split(changed(second=torch.compile(nn.Linear(7, 7)))),
        "'second' is compiled.*_orig_mod",
    ),
    "left out": (
        lambda: chain_split(Partly()),
        "named_parameters of Partly leaves out 'first.weight'.*requires_grad",
    ),
    "data parallel": (lambda: chain_split(nn.DataParallel(Chain())), r".*\.module"),
    "scripted": (
        lambda: chain_split(torch.jit.script(nn.Sequential(nn.Linear(7, 6), nn.Linear(6, 5))), ("1",)),
        ".*Script",
    ),
    "meta": (lambda: chain_split(Chain().to("meta")), "'first.weight' is not initialised .on the meta"),
    "lazy": (
        lambda: chain_split(changed(second=nn.LazyLinear(7))),
        "'second.weight'.*lazy.*call the model once",
    ),
    "a lock": (lambda: chain_split(changed(lock=threading.Lock())), ".*cop(y|ied)"),
    "a class": (lambda: chain_split(Chain), ".*Module"),
    "empty": (lambda: chain_split(nn.Sequential(), (), inputs={"input": "x"}), ""),
    "no names": (
        lambda: chain_split(Loose()),
        ".*forward has no argument 'x'; give the module inside that names its arguments, or one around it that does",
    ),
    "no names, and no inputs": (
        lambda: chain_split(Loose(), inputs=None),
        "Loose.forward names no argument; give the module inside that names its arguments, or one around it.*",
    ),
    "time first": (time_first, f".*{HERE}.*has no batch as its first axis, but as axis 1; "),
    "untraceable": (
        untraceable,
        r".* at transformer.py:\d+, .*: for layer in self\.layers: x = layer\(x\); .*parts=",
    ),
    "a shared parameter": (lambda: chain_split(Shared()), ".*gain.*tie="),
    "tied weights": (
        lambda: split_of(ARCHITECTURES["gpt"], ["blocks.1"], tie=None),
        r".*wte\.weight.*tie='copy'.*tie='together'",
    ),
    "an answer of no tensor": (lambda: chain_split(Answers(lambda y: "logits")), ".*forward"),
    "no such key": (
        lambda: chain_split(Answers(lambda y: {"logits": y, "other": y}), output="logit"),
        ".*'logit'.*did you mean 'logits'",
    ),
    "no such position": (lambda: chain_split(Answers(lambda y: (y, y)), output=2), ".*output.*2"),
    "no key at all": (
        lambda: chain_split(Chain(), output="logits"),
        r"output: 'logits' is no tensor that forward returns \(a tensor \[3, 5\]\); leave output out: .* the target is named by objective",
    ),
    "too few classes": (
        lambda: chain_split(Answers(lambda y: y[:, :3])),
        r"forward returns a tensor \[3, 3\]; the objective needs 5 values per sample for 'label' .*; give the last layer 5 outputs",
    ),
    "a class without an example": (
        lambda: chain_split(Answers(lambda y: torch.cat([y, y[:, :2]], 1))),
        r"forward returns a tensor \[3, 7\]; .*if there are more classes, give the data classes={'label': 7}",
    ),
    "integers": (
        lambda: chain_split(Answers(lambda y: y.long())),
        "forward returns a tensor .*; the objective needs 5 values per sample for 'label' [^;]*; an output is a float tensor",
    ),
    "nothing before a cut": (
        lambda: chain_split(Chain(), ("first",)),
        r"part 0 \(before 'first'\) computes nothing",
    ),
    "not called": (
        lambda: split_of(ARCHITECTURES["fine_tuned"], ["old_head"]),
        ".*'old_head' is a Linear that forward does not call.*'?neck",
    ),
    "a list": (
        lambda: split_of(ARCHITECTURES["mlp"], ["layers"]),
        ".*'layers' is a ModuleList that forward does not call; cut before 'layers.0'",
    ),
    "several inputs": (
        lambda: split(ARCHITECTURES["film"].model(), ["time"], env={"id": "antiphon/Digits-v0"}),
        r"Film.forward takes x, t, strength; give inputs=\{'x'",
    ),
    "no inputs": (
        lambda: chain_split(
            Chain(), inputs={}, env=from_tensors(seen=numbers(7)(20, 0), label=tokens(5)(20, 1))
        ),
        r"inputs: \{\} names no argument of Chain.forward; give inputs=\{'x': 'seen', …\}, or leave it out",
    ),
    "parts": (
        lambda: chain_split(None, (), parts=[3]),
        "parts is .*; give a list of torch.nn.Module",
    ),
    "no cut": (
        lambda: split(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), env="antiphon/Digits-v0"),
        r"at: is missing; name submodules to cut before \(at=\['1'\]; antiphon.cuts lists them\), or give a number of parts",
    ),
    "an image for a linear layer": (
        lambda: split(nn.Sequential(nn.Linear(64, 10)), 1, env="antiphon/Digits-v0"),
        r"Sequential does not take input \[3, 1, 8, 8\] .*; begin with nn.Flatten\(\)",
    ),
    "numbers for a convolution": (
        lambda: split(nn.Conv2d(1, 4, 3), 1, env=from_tensors(x=torch.zeros(8, 64), label=torch.arange(8))),
        r"Conv2d does not take .*; begin with nn.Unflatten\(1, shape\)",
    ),
    "no parts": (lambda: chain_split(None, (), parts=5), "parts is 5; give a list of torch.nn.Module"),
    "a width that is not the data's": (
        lambda: split(nn.Sequential(nn.Flatten(), nn.Linear(60, 10)), ["1"], env="antiphon/Digits-v0"),
        r".*; '1' \(Linear\) reads 64 with in_features=60: make them equal, or read another signal by `inputs`",
    ),
    "a width that is not the layer's before": (
        lambda: split(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(9, 10)), ["2"], env="antiphon/Digits-v0"
        ),
        r".*; '2' \(Linear\) reads 8 with in_features=9: make them equal",
    ),
    "a kind as the target": (
        lambda: chain_split(Chain(), objective="regression"),
        r"objective: no signal 'regression'; write \{'kind': 'regression', 'target': …\}",
    ),
    "no target named": (
        lambda: chain_split(Chain(), env=from_tensors(x=torch.zeros(8, 4), following=torch.arange(8))),
        "objective: no signal 'label'; name the target, objective=…, of: following, x",
    ),
    "epochs": (lambda: chain_split(Chain(), epochs=3), r".*write simulation.run\(epochs=…\)"),
    "a cut twice": (
        lambda: split_of(ARCHITECTURES["mlp"], ["layers.1", "layers.1"]),
        "at names 'layers.1' twice",
    ),
    "a gradient that is a number": (
        lambda: chain_split(Chain(), gradient=3),
        "gradient: 3; must be a kind, such as 'local', or a mapping of its keys",
    ),
    "no delay": (lambda: chain_split(Chain(), delay=None), "delay=None; must be a whole number, at least 0"),
    "a list of no environments": (
        lambda: chain_split(Chain(), env=[]),
        "env: is an empty list; pass an environment",
    ),
    "a lens that reads several": (
        lambda: split(UNet(), ["bottom", "up2"], env=pictures(), gradient={"kind": "lens", "at": "up2"}),
        "gradient: the layers from 'up2' on read relu .*, and a head reads one message; name",
    ),
    "a lens of another shape": (
        lambda: split(ResNet(), ["layer2"], env=pictures(), gradient={"kind": "lens", "at": "fc"}),
        r"gradient: the layers from '.*' on read .* \[.*\], and a head reads one message of shape \[.*\]; name",
    ),
    "a lens of no submodule": (
        lambda: split(ResNet(), ["layer2"], env=pictures(), gradient={"kind": "lens", "at": "f"}),
        "at: no submodule 'f'; did you mean 'fc'",
    ),
}


@pytest.mark.cases(2)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler and of scripts
@pytest.mark.parametrize("name", MODELS)
def test_what_cannot_be_split_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # a machine without devices, also after tests that have registered a pretended one
    monkeypatch.setattr(DATA_PARALLEL, "_get_available_device_type", lambda: None)
    attempt, expected = MODELS[name]
    with one_line(f"split: {expected}"):
        attempt()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"at": ["secnd"]}, "'secnd'.*'second'"),
        ({"at": ["secnd"], "objective": "labl"}, "split: at: no submodule 'secnd'; did you mean 'second'"),
        (
            {"at": [3], "objective": "labl"},
            f"split: at=.3.: positions need an nn.Sequential; name submodules of Chain, {NEAREST}",
        ),
        ({"at": [""]}, f"split: at: a list of str; give names of submodules, {NEAREST}"),
        (
            {"at": [3]},
            f"split: at=.3.: positions need an nn.Sequential; name submodules of Chain, {NEAREST}",
        ),
        ({"at": ["second", 2]}, "split: at: a list of str, int; give names"),
        ({"at": "second"}, r"split: at is 'second'; give a list such as \['first'\]"),
        ({"at": 50}, "split: .*at=50"),
        ({"inputs": {"y": "x"}}, "'y'"),
        ({"inputs": "x"}, r"split: inputs: 'x'; give inputs=\{'x': 'x', …\}"),
        ({"inputs": {"x": "xs"}}, "'xs'.*did you mean 'x'"),
        ({"objective": 3}, "split: objective: 3; give a target's name"),
        ({"objective": "labl"}, "no signal 'labl'; did you mean 'label'"),
        ({"output": 1.5}, "split: output: 1.5 is no tensor"),
        ({"env": None}, "split: env: is missing; pass an environment, such as antiphon.envs.from_tensors"),
        ({"env": 3}, "split: env: int is not an environment"),
        (
            {"env": TensorDataset(torch.zeros(2, 2))},
            r"split: env: TensorDataset is not an environment; pass an id, antiphon.envs.from_dataset\(",
        ),
        ({"parts": [nn.Linear(7, 5)]}, "split: give a model and where to cut it, or parts, not both"),
        ({"tie": "both"}, "tie.*'both'"),
        (
            {"coupling": "unlocked"},
            "split: coupling: parts have no synthetic inputs, which 'unlocked' reads; use decoupled",
        ),
        ({"gradeint": "local"}, "split: no argument 'gradeint'; did you mean 'gradient'?"),
        ({"learning_rte": 1}, "split: no argument 'learning_rte'; known: "),
        ({"sweep": None}, "training.sweep: must be true or false, not null"),
    ],
)
def test_a_setting_that_cannot_be_names_it(settings: dict[str, Any], expected: str) -> None:
    with one_line(expected):
        chain_split(Chain(), **settings)


def test_positions_of_a_sequence_rise_within_it() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))
    for at, wrong in (
        ([0], "0 is not"),
        ([3, 3], "must be increasing"),
        ([4], "4 is not"),
        ([9], "9 is not"),
    ):
        with one_line(f": {wrong}.*; give increasing positions from 1 to 3"):
            split(model, at, env=pictures())
    assert [channel.size for channel in split(model, [1, 3], env=pictures()).channels] == [64, 6]


# --- joining -----------------------------------------------------------------------------------------------


def test_what_cannot_be_joined_is_one_line() -> None:
    with Simulation("digits-mlp") as run, one_line("join: .*was not made by antiphon.split", RunError):
        antiphon.join(run)
    with Simulation(chain_split(Chain())) as run:
        for what in (run.scenario, "runs/a"):
            with one_line("join: run is .*; give an antiphon.Simulation", RunError):
                antiphon.join(what)  # type: ignore[arg-type]
        for into in (Chain, "model.pt"):
            with one_line("join: into is .*; give a torch.nn.Module", RunError):
                antiphon.join(run, into=into)  # type: ignore[type-var]
        with one_line("join: into: 'first.weight' is on the meta device", RunError):
            antiphon.join(run, into=Chain().to("meta"))
        for other in (changed(third=nn.Linear(7, 6)), nn.Linear(7, 5), nn.Sequential()):
            before = {k: v.clone() for k, v in other.state_dict().items()}
            with one_line("join: into: .*(third|weight|first|second)", RunError):
                antiphon.join(run, into=other)
            assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


# --- masks -------------------------------------------------------------------------------------------------


class Masked(nn.Module):
    """Embeddings of words that a function reads with their mask."""

    def __init__(self, read: Callable[..., Tensor]) -> None:
        super().__init__()
        self.embed, self.attend = nn.Embedding(9, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.out, self.read = nn.Linear(4, 3), read

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.read(self.attend, self.embed(words), mask))


def masked(read: Callable[..., Tensor], kind: torch.dtype = torch.bool) -> Scenario:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(9, (20, 6), generator=generator)
    mask = (torch.arange(6) < torch.randint(1, 6, (20, 1), generator=generator)).to(kind)
    env = from_tensors(words=words, mask=mask, label=words.sum(1) % 3, test=0.0, validation=0.0)
    return split(Masked(read), at=["out"], env=env, coupling="locked")


def attended(attend: nn.Module, h: Tensor, mask: Tensor | None) -> Tensor:
    return attend(h, h, h, key_padding_mask=mask)[0].mean(1)


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (attended, "of which Masked computes something else"),  # an attention adds floats to its scores
        (lambda _, h, mask: h.masked_fill(mask.unsqueeze(2), 0).mean(1), "which Masked does not take"),
        (lambda attend, h, mask: attended(attend, h, ~mask), "which Masked does not take"),
    ],
)
def test_masks_that_mean_something_else_as_floats_are_refused(
    read: Callable[..., Tensor], problem: str
) -> None:
    line = rf"^split: mask is bool in the data, and enters as the floats 0 and 1, {problem}; begin forward with mask = mask\.bool\(\)$"
    with one_line(line):
        masked(read)


@pytest.mark.parametrize(
    "read",
    [
        lambda attend, h, mask: attended(attend, h, ~mask.bool()),
        lambda attend, h, mask: attended(attend, h, (1 - mask) * -1e9),
        lambda _, h, mask: (h * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1),
        lambda _, h, mask: h.masked_fill((mask == 0).unsqueeze(2), 0).mean(1),
        lambda _, h, mask: (h * torch.logical_not(mask).unsqueeze(2)).mean(1),
    ],
)
def test_masks_that_are_read_as_floats_are_taken(read: Callable[..., Tensor]) -> None:
    assert len(masked(read).agents) == 2


class Hashed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, user: Tensor) -> Tensor:
        return self.out(self.embed(user % 5))


def test_numbers_that_the_type_of_the_parts_does_not_have_are_refused() -> None:
    user = torch.arange(20) + 2**25
    env = from_tensors(user=user, label=user % 3, training_only=["label"], test=0.0, validation=0.0)
    with one_line(
        "split: 'user' has 33,554,452 classes, and torch.float32 can distinguish only 16,777,217; "
    ):
        split(Hashed(), at=["out"], env=env)
    assert len(split(Hashed().double(), at=["out"], env=env).agents) == 2


def test_floats_that_are_added_to_scores_are_taken() -> None:
    assert len(masked(attended, torch.float32).agents) == 2


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize(
    ("read", "twice"),
    [
        (lambda pixels: pixels / 255.0, True),
        (lambda pixels: pixels.permute(0, 2, 1).float().div(255), True),
        (lambda pixels: pixels - 0.5, False),
        (lambda pixels: pixels.exp() / pixels.exp().sum(2, keepdim=True), False),
        (lambda pixels: torch.relu(pixels - 0.1) / 256, False),
    ],
)
def test_bytes_that_are_divided_twice_are_warned_of(
    read: Callable[[Tensor], Tensor], twice: bool, floats: bool
) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(16, 8), nn.Linear(8, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.out(self.first(read(pixels).flatten(1)))

    data = torch.randint(256, (20, 4, 4), dtype=torch.uint8)
    env = from_tensors(pixels=data.float() if floats else data, label=torch.arange(20) % 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split(Reads(), at=["out"], env=env)
    line = "split: forward divides 'pixels' by 255, but bytes enter in [0, 1]"
    assert any(str(warning.message).startswith(line) for warning in caught) == (twice and not floats)
