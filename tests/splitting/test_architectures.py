"""Splitting architectures as users write them: the same numbers, the same keys, the same class."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from tests.kit.tensors import same
from tests.reference.backend import Chosen, reference
from tests.splitting.models import ARCHITECTURES, Architecture, Logits
from tests.splitting.parts import LOOP, ROUNDING, PlainLoop, composed, split_of

DAILY = ("mlp", "convolutions", "resnet", "unet", "gpt", "lstm", "rotary", "queries")
DROPOUT = 0.2
"""Of architectures that have it."""


def tier(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if name in DAILY else (pytest.mark.long,)


CASES = [
    pytest.param(each, at, id=f"{name}-{'+'.join(at)}", marks=pytest.mark.nightly if i else tier(name))
    for name, each in ARCHITECTURES.items()
    for i, at in enumerate(each.cuts)
]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("model", "at"), CASES)
def test_a_split_computes_learns_and_gives_back_what_the_model_does(
    model: Architecture, at: tuple[str, ...]
) -> None:
    """All claims on one trace: it is what takes the time."""
    whole = model.model(DROPOUT)
    before = facts_of(whole)
    scenario = split_of(model, at, whole, coupling="locked")
    assert len(scenario.agents) == len(at) + 1
    parts_one_after_the_other_are_the_model(model, whole, scenario)
    what_is_joined_is_what_the_engine_computes(model, whole, scenario)
    locked_training_is_the_plain_loop(PlainLoop(model, at, DROPOUT), scenario)
    after = facts_of(whole)
    assert list(after) == list(before)
    assert [name for name, value in before.items() if not equal(after[name], value)] == []


def facts_of(whole: nn.Module) -> dict[str, Any]:
    """Copies of all a model's tensors, and what else might be changed of it."""
    found: dict[str, Any] = {name: value.clone() for name, value in whole.state_dict().items()}
    found |= {f"buffer {name}": value.clone() for name, value in whole.named_buffers()}
    for name, p in whole.named_parameters():
        found[f"parameter {name}"] = (p.requires_grad, p.grad is None)
    for name, module in whole.named_modules():
        found[f"module {name}"] = (id(module), module.training, set(vars(module)), type(module).forward)
    return found


def equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def parts_one_after_the_other_are_the_model(
    model: Architecture, whole: nn.Module, scenario: Scenario
) -> None:
    """To the bit, in both modes, with the same dropout, at batch sizes other than the traced one."""
    for batch, training in ((1, False), (7, True), (4, False)):  # a batch of one has no statistics
        arguments = model.example(batch, seed=batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            expected = model.call(copy.deepcopy(whole).train(training), arguments)
            torch.manual_seed(5)
            found = composed(scenario, arguments, training=training)
            again = composed(scenario, arguments, training=training)
        same(found, expected.flatten(1))
        assert torch.equal(found, again) != (training and model.dropout)


def what_is_joined_is_what_the_engine_computes(
    model: Architecture, whole: nn.Module, scenario: Scenario
) -> None:
    """Untrained it is the model, trained it computes what the engine does."""
    arguments = model.example(5, seed=2)
    signals = {f"in_{name}": value for name, value in arguments.items()}
    with Simulation(scenario) as run:
        untrained = antiphon.join(run)
        (first,) = run.compose()(signals).values()
        run.run(2)
        joined = antiphon.join(run)
        (expected,) = run.compose()(signals).values()
    assert type(joined) is type(whole)
    for name, value in whole.state_dict().items():
        assert untrained.state_dict()[name].dtype == value.dtype
        assert torch.equal(untrained.state_dict()[name], value), name
    for name, p in whole.named_parameters():
        assert untrained.get_parameter(name).requires_grad == p.requires_grad, name
    # to rounding: torch computes products and recurrent layers in another order where a parameter is trained
    for found, of_model in ((first, whole), (expected, joined)):
        with torch.no_grad():
            computed = model.call(copy.deepcopy(of_model).eval(), arguments)
        torch.testing.assert_close(found.flatten(1), computed.flatten(1), check_stride=False)
    own = {value.data_ptr() for value in whole.state_dict().values() if value.numel()}
    assert not own & {value.data_ptr() for value in joined.state_dict().values() if value.numel()}


def locked_training_is_the_plain_loop(
    plain: PlainLoop, scenario: Scenario, backend: Chosen = "cohort"
) -> None:
    with Simulation(scenario, dtype=torch.float64, backend=backend) as run:
        for _ in range(LOOP):
            batch = {name: value.clone() for name, value in run.signals.items()}
            losses = run.step()["losses"]
            assert abs(float(losses[list(scenario.agents)[-1]]) - plain.step(batch)) < ROUNDING
        origin = scenario.agents["part0"].network.origin
        origin.model.double()  # what is joined is rounded to the model's type
        joined = antiphon.join(run).state_dict()
    torch.testing.assert_close(joined, plain.model.state_dict(), atol=ROUNDING, rtol=0)


OPTIMISERS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": ({"kind": "sgd", "lr": 0.5}, partial(torch.optim.SGD, lr=0.5)),
    "adam": ({"kind": "adam", "lr": 0.01}, partial(torch.optim.Adam, lr=0.01)),
    "RMSprop": ({"kind": "RMSprop", "lr": 0.01}, partial(torch.optim.RMSprop, lr=0.01)),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("name", "backend"), [(n, "cohort") for n in OPTIMISERS] + [("sgd", reference), ("adam", "native")]
)
def test_locked_parts_are_clipped_as_one_model(name: str, backend: Chosen, *, tied: bool) -> None:
    """By `clip_grad_norm_` over the whole model, in a plain loop."""
    model = replace(ARCHITECTURES["gpt"], make=lambda dropout: Logits(dropout=dropout, tied=tied))
    (settings, optimiser), at = OPTIMISERS[name], model.cuts[0]
    scenario = split_of(model, at, coupling="locked", optimiser={**settings, "clip": 0.2})
    locked_training_is_the_plain_loop(PlainLoop(model, at, 0.0, optimiser, clip=0.2), scenario, backend)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(each, id=name, marks=() if name == "mlp" else pytest.mark.nightly)
        for name, each in ARCHITECTURES.items()
    ],
)
def test_every_cut_that_is_listed_can_be_made_and_carries_what_it_says(model: Architecture) -> None:
    whole = model.model()
    listed = antiphon.cuts(whole, model.example(3))
    assert len(listed) >= 2
    for cut in listed:
        sizes = [channel.size for channel in split_of(model, (cut.name,), whole).channels]
        found = [(size,) if isinstance(size, int) else tuple(size) for size in sizes]
        assert sorted(found) == sorted(shape or (1,) for shape in cut.tensors.values())
