"""Splitting architectures as users write them: the same numbers, the same keys, the same class."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon.engine.simulation import Simulation
from tests.architectures import ARCHITECTURES, Architecture, architecture
from tests.engine.split.parts import LOOP, ROUNDING, PlainLoop, composed, split_of
from tests.tensors import same

CORE = ("mlp", "image_and_vector", "fine_tuned", "routes", "resnet", "unet", "dict", "nanogpt", "lstm")
"""Models that differ in what is split: dropout, several inputs, frozen layers, parallel ways, batch norm, tensors that skip parts,
a named output, tied weights, a state. The others are tried at night."""


def tier(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if name in CORE else (pytest.mark.nightly,)


CUTS = [
    pytest.param(each, at, id=f"{each}-{'+'.join(at)}", marks=tier(each.name))
    for each in ARCHITECTURES
    for at in each.cuts
]
EACH = pytest.mark.parametrize(
    "model", [pytest.param(each, id=each.name, marks=tier(each.name)) for each in ARCHITECTURES]
)


def frozen_copy(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all a model's tensors, and of what they ask of autograd."""
    return {
        **{name: value.clone() for name, value in model.state_dict().items()},
        **{f"buffer {name}": value.clone() for name, value in model.named_buffers()},
        **{f"grad {name}": torch.tensor(p.requires_grad) for name, p in model.named_parameters()},
        **{f"mode {name}": torch.tensor(m.training) for name, m in model.named_modules()},
    }


def used_parameters(model: Architecture, whole: nn.Module) -> set[str]:
    """The names of the parameters that learn and that the prediction depends on; all names of those that are shared."""
    named = {name: p for name, p in whole.named_parameters(remove_duplicate=False) if p.requires_grad}
    found = model.call(whole, model.example(2)).sum()
    gradients = torch.autograd.grad(found, list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


# --- the parts are the model -------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "at"), CUTS)
def test_the_parts_composed_are_the_model_to_the_bit(model: Architecture, at: tuple[str, ...]) -> None:
    whole = model.model()
    scenario = split_of(model, at, whole)
    assert len(scenario.agents) == len(at) + 1
    for batch in (1, 4, 7):
        arguments = model.example(batch, seed=batch)
        for training in (True, False) if batch > 1 else (False,):  # a batch of one has no statistics
            expected = model.call(copy.deepcopy(whole).train(training), arguments)
            found = composed(scenario, arguments, training=training)
            same(found, expected.flatten(1))


@pytest.mark.parametrize(("model", "at"), CUTS)
def test_the_engine_composes_them_to_the_same_bits(model: Architecture, at: tuple[str, ...]) -> None:
    whole = model.model()
    arguments = model.example(5, seed=2)
    with Simulation(split_of(model, at, whole, coupling="locked")) as run:
        found = run.compose()(**{f"in_{name}": value for name, value in arguments.items()})
    (prediction,) = found.values()
    same(prediction.flatten(1), model.call(whole.eval(), arguments).flatten(1))


@pytest.mark.parametrize(
    "model",
    [pytest.param(each, id=each.name, marks=tier(each.name)) for each in ARCHITECTURES if each.dropout],
)
def test_dropout_is_drawn_as_the_model_draws_it(model: Architecture) -> None:
    whole = model.model(dropout=0.3)
    arguments = model.example(3, seed=1)
    for at in model.cuts:
        scenario = split_of(model, at, whole)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            expected = model.call(copy.deepcopy(whole).train(), arguments)
            torch.manual_seed(5)
            found = composed(scenario, arguments, training=True)
        same(found, expected.flatten(1))
        assert not torch.equal(found, composed(scenario, arguments, training=True))
        found = composed(scenario, arguments, training=False)
        same(found, model.call(copy.deepcopy(whole).eval(), arguments).flatten(1))


@EACH
def test_every_cut_that_is_listed_can_be_made_and_carries_what_it_says(model: Architecture) -> None:
    whole = model.model()
    listed = antiphon.cuts(whole, model.example(3), output=model.output)
    assert len(listed) >= 2
    for cut in listed:
        assert not cut.problem
        found = [_shape(channel.size) for channel in split_of(model, (cut.name,), whole).channels]
        assert sorted(found) == sorted(shape or (1,) for shape in cut.tensors.values())


def _shape(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


# --- what comes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "at"), CUTS)
def test_every_number_of_every_part_comes_back_once(model: Architecture, at: tuple[str, ...]) -> None:
    """Each parameter and buffer of the parts is filled with a number of its own: keys may be found by them."""
    whole = model.model()
    with Simulation(split_of(model, at, whole), backend="reference", dtype=torch.float64) as run:
        learners = [agent.learner for agent in run._system.agents.values()]
        trained = [p.data for learner in learners for p in learner.parameters.values()]
        for i, value in enumerate(trained):
            value.fill_(1000 + i)
        joined = antiphon.join(run)
    assert type(joined) is type(whole)
    found, before = joined.state_dict(), whole.state_dict()
    assert list(found) == list(before)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in before.items()}
    ids = {
        name: int(p.data.flatten()[0])
        for name, p in joined.named_parameters()
        if float(p.data.flatten()[0]) >= 1000
    }
    assert all(bool((found[name] == float(i)).all()) for name, i in ids.items())
    assert len(set(ids.values())) == len(ids)
    assert set(ids) == used_parameters(model, whole)
    assert len(ids) == len(trained)


@EACH
def test_an_untrained_split_joins_to_the_same_model(model: Architecture) -> None:
    whole = model.model().eval()
    for at in model.cuts:
        with Simulation(split_of(model, at, whole)) as run:
            joined = antiphon.join(run)
        assert {k: v.dtype for k, v in joined.state_dict().items()} == {
            k: v.dtype for k, v in whole.state_dict().items()
        }
        for name, value in whole.state_dict().items():
            assert torch.equal(joined.state_dict()[name], value), name
        for name, p in whole.named_parameters():
            assert joined.get_parameter(name).requires_grad == p.requires_grad, name
        arguments = model.example(3)
        same(model.call(joined.eval(), arguments), model.call(whole, arguments))


@EACH
def test_a_trained_split_joins_to_what_the_engine_has_trained(model: Architecture) -> None:
    whole = model.model()
    arguments = model.example(5, seed=2)
    signals = {f"in_{name}": value for name, value in arguments.items()}
    tie: dict[str, Any] = {"tie": "together"} if model.ties else {}
    with Simulation(split_of(model, model.cuts[-1], whole, coupling="locked", **tie)) as run:
        run.run(3)
        joined = antiphon.join(run)
        (expected,) = run.compose()(**signals).values()
        into = model.model()
        assert antiphon.join(run, into=into) is into
    same(model.call(joined.eval(), arguments).flatten(1), expected.flatten(1))
    for name, value in joined.state_dict().items():
        same(into.state_dict()[name], value)
    learning = used_parameters(model, whole)
    changed = [
        name for name in learning if not torch.equal(joined.get_parameter(name), whole.get_parameter(name))
    ]
    assert len(changed) > len(learning) / 2


@EACH
def test_the_model_is_left_as_it_was(model: Architecture) -> None:
    whole = model.model()
    before, random, kind = frozen_copy(whole), torch.get_rng_state(), type(whole).forward
    modules = dict(whole.named_modules())
    modules_state = {name: set(vars(module)) for name, module in modules.items()}
    with Simulation(split_of(model, model.cuts[-1], whole)) as run:
        run.run(3)
        joined = antiphon.join(run)
    assert torch.equal(torch.get_rng_state(), random)
    after = frozen_copy(whole)
    assert list(after) == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert type(whole).forward is kind
    assert dict(whole.named_modules()) == modules
    assert {name: set(vars(module)) for name, module in whole.named_modules()} == modules_state
    assert all(p.grad is None for p in whole.parameters())
    ours = {p.data_ptr() for p in joined.state_dict().values() if p.numel()}
    assert not ours & {p.data_ptr() for p in whole.state_dict().values() if p.numel()}


# --- training ----------------------------------------------------------------------------------------------

LOCKED = [
    ("mlp", 1, 0.2),
    ("image_and_vector", 2, None),
    ("options", 1, None),
    ("film", 2, None),
    ("fine_tuned", 1, None),
    ("routes", 1, None),
    ("squeeze_excite", 1, None),
    ("sequential", 1, 0.2),
    ("resnet", 1, None),
    ("resnet", 3, None),
    ("unet", 2, None),
    ("densenet", 2, 0.2),
    ("vit", 1, 0.2),
    ("mixer", 1, None),
    ("dict", 1, None),
    ("nanogpt", 1, 0.2),
    ("masked_gpt", 1, 0.2),
    ("llama", 2, None),
    ("encoder_decoder", 1, 0.2),
    ("wavenet", 2, None),
    ("lstm", 2, None),
]


@pytest.mark.parametrize(
    ("name", "cut", "dropout"), [pytest.param(*each, marks=tier(each[0])) for each in LOCKED]
)
def test_locked_training_is_the_plain_loop(name: str, cut: int, dropout: float | None) -> None:
    model = architecture(name)
    at = model.cuts[cut]
    options = {} if dropout is None else {"dropout": dropout}
    tie: dict[str, Any] = {"tie": "together"} if model.ties else {}
    scenario = split_of(model, at, model.model(**options), coupling="locked", **tie)
    plain = PlainLoop(model, at, **options)
    with Simulation(scenario, dtype=torch.float64) as run:
        for _ in range(LOOP):
            signals = dict(run.world.step_signals.signals)
            losses = run.step()["losses"]
            expected = plain.step(signals)
            assert abs(float(losses[list(scenario.agents)[-1]]) - expected) < ROUNDING
        joined = antiphon.join(run, into=model.model().double()).state_dict()
    torch.testing.assert_close(joined, plain.model.state_dict(), atol=ROUNDING, rtol=0)


KINDS: dict[str, dict[str, Any]] = {
    "detached": {"coupling": "detached"},
    "local": {"coupling": "decoupled", "gradient": {"kind": "local", "target": "target"}},
    "linear": {"coupling": "decoupled", "gradient": {"kind": "linear", "context": ["target"]}},
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "linear" else (pytest.mark.nightly,)) for kind in KINDS]
)
@EACH
def test_decoupled_parts_train_alike_on_both_engines(model: Architecture, kind: str) -> None:
    tie: dict[str, Any] = {"tie": "copy"} if model.ties else {}
    scenario = split_of(model, model.cuts[-1], **KINDS[kind], **tie)
    found = []
    for backend in ("reference", "cohort"):
        with Simulation(scenario, dtype=torch.float64, backend=backend) as run:
            first = antiphon.join(run, into=model.model().double()).state_dict()
            run.run(4)
            found.append(antiphon.join(run, into=model.model().double()).state_dict())
    torch.testing.assert_close(found[1], found[0], atol=ROUNDING, rtol=0)
    assert any(not torch.equal(value, first[name]) for name, value in found[0].items())
