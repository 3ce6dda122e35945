"""Models that are not plain: wrapped, hooked, frozen, empty, of other precision; and cuts at odd places."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.architectures import architecture, numbers, tokens
from tests.engine.numbers import one_line
from tests.engine.split.parts import composed, split_of
from tests.tensors import same

MLP = architecture("mlp")


class Chain(nn.Module):
    """Three layers with something between them."""

    def __init__(self, between: Callable[[Chain, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(7, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = self.second(h) if self.between is None else self.between(self, h)
        return self.third(h)


def chain_split(model: Any, at: Any = ("second",), **settings: Any) -> Scenario:
    """Split a model of `x`, [batch, 7], with five classes."""
    env = antiphon.envs.from_tensors(in_x=numbers(7)(20, 0), label=tokens(5)(20, 1))
    settings = {
        "objective": {"kind": "classification", "target": "label"},
        "inputs": {"x": "in_x"},
        **settings,
    }
    return antiphon.split(model, at=list(at) if isinstance(at, tuple) else at, env=env, batch=4, **settings)


def assert_composed(model: nn.Module, at: Any = ("second",), **settings: Any) -> Scenario:
    """Hold the parts to the model in both modes, at two batch sizes."""
    scenario = chain_split(model, at, **settings)
    for batch in (4, 5):
        for training in (True, False):
            x = numbers(7)(batch, batch)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                expected = copy.deepcopy(model).train(training)(x)
                torch.manual_seed(3)
                same(composed(scenario, {"x": x}, training=training), expected)
    return scenario


# --- where to cut ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [("second", "third"), ("third", "second"), ("second", "second"), 1, 2, 3, ()])
def test_cuts_in_any_order_and_numbers_of_parts(at: Any) -> None:
    scenario = assert_composed(Chain(), at)
    with Simulation(scenario) as run:
        run.run(2)
        assert antiphon.join(run).state_dict().keys() == Chain().state_dict().keys()


def test_a_number_of_parts_is_what_one_gets() -> None:
    for at in (1, 2, 3):
        assert len(chain_split(Chain(), at).agents) == at


@pytest.mark.parametrize(
    "model", [MLP, architecture("resnet"), architecture("nanogpt"), architecture("unet")], ids=str
)
def test_a_number_of_parts_cuts_every_architecture(model: Any) -> None:
    whole = model.model()
    scenario = split_of(model, 3, whole)
    assert len(scenario.agents) == 3
    arguments = model.example(3)
    same(composed(scenario, arguments, training=False), model.call(whole.eval(), arguments).flatten(1))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (100, "split: .*at=100"),
        (("first",), r"split: part 0 \(before 'first'\) computes nothing"),
        (("first", "second"), r"split: part 0 \(before 'first'\) computes nothing"),
    ],
)
def test_cuts_that_make_no_sense(at: Any, expected: str) -> None:
    with one_line(expected):
        chain_split(Chain(), at)


# --- what is wrapped ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_names_what_to_pass() -> None:
    with one_line("split: model is compiled.*_orig_mod"):
        chain_split(torch.compile(Chain()))
    model = Chain()
    model.second = torch.compile(model.second)  # type: ignore[assignment]
    with one_line("split: 'second' is compiled.*_orig_mod"):
        chain_split(model)


def test_a_model_with_data_parallel_around_it_names_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without devices."""
    module = sys.modules["torch.nn.parallel.data_parallel"]
    monkeypatch.setattr(module, "_get_available_device_type", lambda: None)
    with one_line(r"split: .*\.module"):
        chain_split(nn.DataParallel(Chain()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_says_so() -> None:
    with one_line("split: .*script"):
        chain_split(torch.jit.script(nn.Sequential(nn.Linear(7, 6), nn.Linear(6, 5))), ("1",))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it imports its compiler
def test_a_model_that_is_to_be_compiled_in_place_is_split() -> None:
    model = Chain()
    model.compile()
    model.second.compile()
    assert_composed(model)


def test_a_model_on_the_meta_device_says_so() -> None:
    with torch.device("meta"):
        model = Chain()
    with one_line("split: 'first.weight' is on the meta device"):
        chain_split(model)


def test_a_lazy_model_says_to_call_it_first() -> None:
    model = Chain()
    model.second = nn.LazyLinear(6)
    with one_line("split: 'second.weight'.*lazy.*call the model once"):
        chain_split(model)


def test_a_model_that_cannot_be_copied_says_why() -> None:
    model = Chain()
    model.lock = threading.Lock()  # type: ignore[assignment]
    with one_line("split: .*cop(y|ied)"):
        chain_split(model)


# --- modes and precision -----------------------------------------------------------------------------------


def test_a_model_in_eval_mode_trains_in_train_mode_and_comes_back_in_its_own() -> None:
    model = MLP.model(dropout=0.5).eval()
    scenario = split_of(MLP, ("layers.1",), model)
    arguments = MLP.example(3)
    assert not torch.equal(*(composed(scenario, arguments, training=True) for _ in range(2)))
    with Simulation(scenario) as run:
        joined = antiphon.join(run)
    assert not any(module.training for module in joined.modules())
    same(joined(**arguments), model(**arguments))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_comes_back_in_its_own_precision(dtype: torch.dtype) -> None:
    model = Chain().double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 1e-9)
    model = model.to(dtype)
    with Simulation(chain_split(model), dtype=torch.float64) as run:
        joined = antiphon.join(run)
        run.run(2)
        trained = antiphon.join(run)
    for name, value in model.state_dict().items():
        assert joined.state_dict()[name].dtype == dtype
        assert torch.equal(joined.state_dict()[name], value)
    assert not torch.equal(trained.get_parameter("third.weight"), model.third.weight)
    with Simulation(chain_split(model)) as run:  # a float32 run of it
        run.run(2)
        assert run.evaluate().accuracy >= 0
        assert antiphon.join(run).get_parameter("third.weight").dtype == dtype


# --- what forward does -------------------------------------------------------------------------------------


def dropped(self: Chain, h: Tensor) -> Tensor:
    return self.second(F.dropout(h, 0.5, self.training))


def noisy(self: Chain, h: Tensor) -> Tensor:
    return self.second(h + torch.randn_like(h)) + torch.rand(h.shape[0], 1)


def constant_noise(self: Chain, h: Tensor) -> Tensor:
    return self.second(h + torch.randn(6))


def drop_path(self: Chain, h: Tensor) -> Tensor:
    y = self.second(h)
    shape = (y.shape[0],) + (1,) * (y.ndim - 1)
    keep = y.new_empty(shape).bernoulli_(0.5)
    keep.div_(0.5)
    return h + y * keep


@pytest.mark.parametrize("between", [dropped, noisy, constant_noise, drop_path])
def test_what_a_forward_draws_and_its_mode_are_kept(between: Callable[[Chain, Tensor], Tensor]) -> None:
    assert_composed(Chain(between))
    assert_composed(Chain(between), ("third",))


class Remembers(Chain):
    """Keeps its activations, and counts its calls."""

    last: Tensor | None = None
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        self.last = h
        self.calls += 1
        return self.third(self.second(h))


def test_a_model_that_remembers_its_activations_is_left_alone() -> None:
    model = Remembers()
    assert_composed(model)
    assert model.last is None
    assert model.calls == 0


class Loose(Chain):
    """Takes whatever comes."""

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        x = args[0] if args else kwargs["x"]
        return self.third(self.second(self.first(x)))


class Named(Chain):
    """A named argument among whatever comes."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(x)


def test_arguments_without_names() -> None:
    assert_composed(Named())
    with one_line(r"split: .*forward\(\*args, \*\*kwargs\) names no argument 'x'"):
        chain_split(Loose())


class Empty(nn.Module):
    """Nothing to learn, nothing to cut."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :5]


def test_a_model_with_nothing_in_it() -> None:
    with one_line("split: "):
        chain_split(Empty())
    with one_line("split: "):
        chain_split(nn.Sequential(), (), inputs={"input": "in_x"})


class Tuple(Chain):
    """A sample is a dict."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["x"])


def test_a_batch_in_a_dict_is_one_line() -> None:
    with one_line("split: "):
        chain_split(Tuple(), inputs={"batch": "in_x"})


# --- what hangs on it --------------------------------------------------------------------------------------


def doubled(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * 2


@pytest.mark.parametrize("place", ["first", "second", ""])
def test_hooks_run_in_the_parts(place: str) -> None:
    model = Chain()
    plain = copy.deepcopy(model)(torch.ones(1, 7))
    model.get_submodule(place).register_forward_hook(doubled)
    assert not torch.equal(model(torch.ones(1, 7)), plain)
    assert_composed(model)


def test_normed_weights_come_back_under_their_keys() -> None:
    model = Chain()
    nn.utils.parametrizations.weight_norm(model.second)
    nn.utils.parametrizations.spectral_norm(model.third)
    scenario = chain_split(model, ("second", "third"))
    x = numbers(7)(3, 0)
    same(composed(scenario, {"x": x}, training=False), copy.deepcopy(model).eval()(x))
    with Simulation(scenario) as run:
        run.run(2)
        joined = antiphon.join(run)
    assert joined.state_dict().keys() == model.state_dict().keys()


def test_one_module_under_two_names_comes_back_as_one() -> None:
    model = Chain()
    model.alias = model.second  # type: ignore[assignment]
    with Simulation(assert_composed(model)) as run:
        run.run(2)
        joined = antiphon.join(run)
    assert joined.state_dict().keys() == model.state_dict().keys()
    assert joined.alias is joined.second


class Stated(nn.Linear):
    """A layer with more in its state than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 3}


def test_extra_state_comes_back() -> None:
    model = Chain()
    model.second = Stated(6, 6)
    with Simulation(assert_composed(model)) as run:
        joined = antiphon.join(run)
        antiphon.join(run, into=model)
    assert list(joined.state_dict()) == list(model.state_dict())
    assert joined.state_dict()["second._extra_state"] == {"version": 3}
