"""Bundles: K models as one say, learn and remember what each of them does alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.model import ContextSpec, Model
from antiphon.comms.stacked import StackedModels
from antiphon.comms.synthetic_gradients import Example, Predictor
from antiphon.comms.synthetic_inputs import INPUTS, InputModel
from antiphon.nets.layers import binary_cross_entropy, cross_entropy, squared_error
from antiphon.nets.schedules import Rate
from tests.comms.made import (
    AGAIN,
    BATCH,
    CASES,
    CLASSES,
    CONTEXT,
    DOUBLE,
    LABEL,
    PLACE,
    draw,
    example,
    make,
    targets,
)
from tests.some import some

COUNT = 3
CONTEXTS: dict[str, tuple[ContextSpec, ...]] = {
    "both": CONTEXT,
    "categorical": (LABEL,),
    "real": (PLACE,),
    "none": (),
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp, layer norm": ("mlp", {"norm": "layer"}),
    "mlp, no norm": ("mlp", {"norm": "none"}),
    "conv, layer norm": ("conv", {"hidden": (3,), "norm": "layer"}),
    "sobolev_label, layer norm": ("sobolev_label", {"hidden": (5,), "norm": "layer"}),
}
FORMS = {**CASES, **MORE}
every_form = pytest.mark.parametrize("name", FORMS)
every_context = pytest.mark.parametrize("context", CONTEXTS)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def all_close(found: Sequence[Tensor], k: int, expected: Sequence[Tensor]) -> None:
    """Gradients of model k: the bias before a batch norm has none but what rounding leaves of the others' size."""
    scale = max(1.0, *(float(gradient.abs().max()) for gradient in expected if gradient.numel()))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine[k], theirs, rtol=1e-12, atol=1e-12 * scale)


def several(name: str, context: str = "both", **given: Any) -> list[Predictor]:
    """Predictors of one form with numbers of their own; by SGD, as Adam would make noise as long as any gradient."""
    kind, settings = FORMS[name]
    if "reconstruct" in settings:  # of the first signal, where there is one
        first = CONTEXTS[context][:1]
        settings = {**settings, "reconstruct": dataclasses.replace(AGAIN, target=first[0]) if first else None}
    found = []
    for k in range(COUNT):
        own = make(kind, **{"context": CONTEXTS[context], "optimiser": {"kind": "sgd"}, **settings, **given})
        for i, parameter in enumerate(own.trainable):
            parameter.data.add_(0.2 * draw(*parameter.shape, seed=90 + 7 * i + k))
        for i, (key, value) in enumerate(own.buffers.items()):
            own.buffers[key] = value + draw(*value.shape, seed=70 + 7 * i + k).square().to(value.dtype)
        found.append(own)
    return found


def told(name: str, context: str = "both", seed: int = 1, *, masked: bool = False) -> list[Example]:
    """An example for each of them; with a mask, some rows of each do not count and are no numbers."""
    columns = {"both": slice(0, CLASSES + 2), "categorical": slice(0, CLASSES), "real": slice(CLASSES, None)}
    found = []
    for k in range(COUNT):
        each = example(seed + 10 * k, **targets(FORMS[name][1]))
        assert each.delta is not None
        assert each.context is not None
        assert each.loss is not None
        each.context = None if context == "none" else each.context[:, columns[context]]
        if masked:
            each.valid = draw(BATCH, seed=seed + k) > 0
            each.valid[k] = True
            each.delta[~each.valid] = torch.nan
            each.loss[~each.valid] = torch.nan
        found.append(each)
    return found


def flat(examples: Sequence[Example]) -> Example:
    """The examples of all as the rows of one."""
    joined: dict[str, Any] = {}
    for field in dataclasses.fields(Example):
        values = [getattr(one, field.name) for one in examples]
        joined[field.name] = None if values[0] is None else torch.cat(values)
    return Example(**joined)


def parts(rows: Tensor) -> list[Tensor]:
    """The rows of each."""
    return list(rows.view(COUNT, -1, *rows.shape[1:]).unbind())


def bundle(models: Sequence[Predictor]) -> tuple[StackedModels, list[Predictor]]:
    """A bundle of copies, and the models themselves."""
    return StackedModels(copy.deepcopy(list(models)), BATCH), list(models)


def take_steps(bundled: StackedModels, gradients: Sequence[Tensor], now: int) -> None:
    """Let each one's own optimiser step, which moves the stacks."""
    for k, model in enumerate(bundled.members):
        model.step([gradient[k] for gradient in gradients], now)


def assert_same_numbers(bundled: StackedModels, models: Sequence[Model]) -> None:
    for k, model in enumerate(models):
        for name, value in model.parameters.items():
            close(bundled.parameters[name][k].data, value.data)
        assert set(bundled.buffers) == set(model.buffers)
        for name, value in model.buffers.items():
            close(bundled.buffers[name][k], value)


@every_form
@every_context
def test_what_it_says_is_what_each_says_alone(name: str, context: str) -> None:
    bundled, models = bundle(several(name, context))
    examples = told(name, context)
    asked = flat(examples)
    for own, each, said in zip(models, examples, parts(bundled.predict(asked)), strict=True):
        close(said, own.predict(each).data)
        assert not said.requires_grad
    if models[0].needs_loss:
        for own, each, value in zip(models, examples, parts(bundled.value(asked)), strict=True):
            close(value, own.value(each))
    if models[0].propagates:
        for own, each, back in zip(models, examples, parts(bundled.propagated(asked)), strict=True):
            close(back, own.propagated(each))
    assert_same_numbers(bundled, models)


@every_form
@pytest.mark.parametrize(
    ("context", "masked"),
    [
        pytest.param(context, masked, marks=() if context == "both" or not masked else (pytest.mark.nightly,))
        for context in CONTEXTS
        for masked in (False, True)
    ],
)
def test_what_it_learns_is_what_each_learns_alone(name: str, context: str, masked: bool) -> None:
    bundled, models = bundle(several(name, context))
    for now in range(3):
        first, second = (told(name, context, seed=100 * now + s, masked=masked) for s in (1, 50))
        losses, gradients = bundled.gradients([flat(first), flat(second)])
        assert losses.shape == (COUNT,)
        assert [g.shape for g in gradients] == [p.shape for p in bundled.parameters.values()]
        for k, own in enumerate(models):
            loss, alone = own.gradients([first[k], second[k]])
            close(losses[k], loss)
            all_close(gradients, k, alone)
            own.step(alone, now)
        take_steps(bundled, gradients, now)
        assert_same_numbers(bundled, models)
    assert [model.updates for model in bundled.members] == [3] * COUNT


@pytest.mark.parametrize("name", ["mlp", "sobolev, a hidden layer"])
def test_wide_ones_too(name: str) -> None:
    """Large enough for the norm's own path for stacks."""
    rows, width = 60, 800
    bundled, models = bundle(several(name, hidden=(width,)))
    examples = [example(10 * k, batch=rows) for k in range(COUNT)]
    losses, gradients = bundled.gradients([flat(examples)])
    for k, (own, each) in enumerate(zip(models, examples, strict=True)):
        loss, alone = own.gradients([each])
        close(losses[k], loss)
        all_close(gradients, k, alone)
        for key, value in own.buffers.items():
            close(bundled.buffers[key][k], value)


@every_form
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_nothing_to_those_for_whom_it_is_no_example(name: str, masked: bool) -> None:
    """Whatever the rows of the others hold, or their parameters."""
    bundled, models = bundle(several(name))
    before = {key: value.clone() for key, value in bundled.buffers.items()}
    first, second = told(name, seed=1, masked=masked), told(name, seed=50, masked=masked)
    here, there = torch.tensor([True, False, False]), torch.tensor([True, False, True])
    for k, each in enumerate(zip(first, second, strict=True)):
        for one, heard in zip(each, (here, there), strict=True):
            if not heard[k]:
                for value in (one.message, one.context, one.delta, one.loss):
                    assert value is not None
                    value.fill_(torch.nan)
    for parameter in bundled.members[1].trainable:
        parameter.data.fill_(torch.nan)
    losses, gradients = bundled.gradients([flat(first), flat(second)], [here, there])
    assert losses[1] == 0
    assert all(torch.equal(g[1], torch.zeros_like(g[1])) for g in gradients)
    assert all(torch.equal(bundled.buffers[key][1], value[1]) for key, value in before.items())
    for k, examples in ((0, [first[0], second[0]]), (2, [second[2]])):
        loss, alone = models[k].gradients(examples)
        close(losses[k], loss)
        all_close(gradients, k, alone)
        for key, value in models[k].buffers.items():
            close(bundled.buffers[key][k], value)


@every_form
def test_an_example_may_say_itself_for_whom_it_is_one(name: str) -> None:
    bundled, _ = bundle(several(name))
    again = copy.deepcopy(bundled)
    each, heard = flat(told(name)), torch.tensor([False, True, True])
    expected, gradients = bundled.gradients([each], [heard])
    found, same = again.gradients([dataclasses.replace(each, members=heard)])
    assert torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))
    assert all(torch.equal(again.buffers[key], value) for key, value in bundled.buffers.items())


def outcome(bundled: StackedModels, asked: Example) -> list[Tensor]:
    """All that a bundle says, learns and remembers, [K, …] each."""
    found = [bundled.predict(asked).reshape(COUNT, -1)]
    if bundled.model.needs_loss:
        found.append(bundled.value(asked).reshape(COUNT, -1))
    if bundled.model.propagates:
        found.append(bundled.propagated(asked).reshape(COUNT, -1))
    losses, gradients = bundled.gradients([asked])
    return [*found, losses, *gradients, *bundled.buffers.values()]


@every_form
@pytest.mark.parametrize(
    ("where", "dtype"),
    [
        ("rows", torch.float32),
        ("parameters", torch.float64),
        pytest.param("rows", torch.float64, marks=pytest.mark.nightly),
        pytest.param("parameters", torch.float32, marks=pytest.mark.nightly),
    ],
)
def test_numbers_that_are_none_change_no_bit_of_another(name: str, dtype: torch.dtype, where: str) -> None:
    bundled, _ = bundle(several(name, dtype=dtype))
    asked = flat(told(name))
    for field in ("message", "context", "delta", "loss"):
        setattr(asked, field, getattr(asked, field).to(dtype))
    if asked.target is not None and asked.target.is_floating_point():
        asked.target = asked.target.to(dtype)
    ill, sick = copy.deepcopy(bundled), copy.deepcopy(asked)
    if where == "rows":
        for value in (sick.message, sick.delta, sick.loss):
            assert value is not None
            parts(value)[1].fill_(torch.nan)
    else:
        for parameter in ill.parameters.values():
            parameter.data[1] = torch.nan
    for healthy, found in zip(outcome(bundled, asked), outcome(ill, sick), strict=True):
        assert torch.equal(healthy[[0, 2]], found[[0, 2]])


@pytest.mark.parametrize("name", ["linear", "local", "mlp", "critic", "conv"])
def test_a_context_may_be_a_view_of_one_that_all_share(name: str) -> None:
    bundled, _ = bundle(several(name))
    asked = flat(told(name))
    shared = some(told(name)[0].context)
    asked.context = shared.repeat(COUNT, 1)
    viewed = dataclasses.replace(asked, context=shared.expand(COUNT, *shared.shape))
    close(bundled.predict(viewed), bundled.predict(asked))
    for mine, theirs in zip(bundled.gradients([viewed])[1], bundled.gradients([asked])[1], strict=True):
        close(mine, theirs)


def test_a_remembered_prediction_is_neither_made_again_nor_changed() -> None:
    bundled, _ = bundle(several("linear"))
    asked = flat(told("linear"))
    expected = bundled.gradients([asked])[1]
    said = asked.prediction = bundled.predict(asked)
    before = said.clone()
    for mine, theirs in zip(bundled.gradients([asked])[1], expected, strict=True):
        close(mine, theirs)
    assert torch.equal(said, before)
    asked.prediction = said + 1
    assert not torch.equal(bundled.gradients([asked])[1][0], expected[0])


def test_the_models_own_numbers_are_views() -> None:
    models = several("mlp")
    numbers = [{key: p.detach().clone() for key, p in model.parameters.items()} for model in models]
    kept = [list(model.trainable) for model in models]
    bundled = StackedModels(models, BATCH)
    assert bundled.members == models
    for k, (model, before) in enumerate(zip(models, numbers, strict=True)):
        for own, same, handed in zip(
            model.parameters.values(), kept[k], model.optimiser.parameters, strict=True
        ):
            assert own is same is handed  # the tensors that everybody holds
        for key, own in model.parameters.items():
            assert torch.equal(own, before[key])
            assert own.requires_grad
            assert own.is_leaf
            bundled.parameters[key].data[k] += 1
            assert torch.equal(own, before[key] + 1)
            own.data.copy_(before[key])
            assert torch.equal(bundled.parameters[key][k], before[key])
        assert model.updates == 0


def test_running_statistics_are_values_that_are_handed_over() -> None:
    bundled, models = bundle(several("mlp"))
    own = bundled.members
    handed = [dict(model.buffers) for model in own]
    stacked = dict(bundled.buffers)
    copies = {key: value.clone() for key, value in stacked.items()}
    bundled.gradients([flat(told("mlp"))])
    assert all(torch.equal(value, copies[key]) for key, value in stacked.items())
    assert all(model.buffers[k] is v for model, old in zip(own, handed, strict=True) for k, v in old.items())
    bundled.write_members()
    for k, model in enumerate(own):
        assert model.buffers.keys() == stacked.keys()
        assert all(torch.equal(value, bundled.buffers[key][k]) for key, value in model.buffers.items())
    own[1].buffers = dict(models[1].buffers)
    bundled.read_members()
    assert all(torch.equal(bundled.buffers[key][1], value) for key, value in models[1].buffers.items())


def test_a_copy_is_a_bundle_of_its_own() -> None:
    bundled, _ = bundle(several("mlp"))
    other = copy.deepcopy(bundled)
    other.parameters["last.bias"].data += 1
    assert torch.equal(other.members[2].parameters["last.bias"], other.parameters["last.bias"][2])
    close(other.parameters["last.bias"].data, bundled.parameters["last.bias"].data + 1)


def test_the_linear_maps_of_a_copy_follow_its_parameters() -> None:
    other = copy.deepcopy(bundle(several("linear"))[0])
    other.parameters["last.weight"].data += 1
    assert other.maps is not None
    assert torch.equal(other.maps.weights, other.parameters["last.weight"])


def test_losses_of_stacked_networks_are_those_of_each() -> None:
    output, classes = draw(COUNT, BATCH, 4, seed=1), torch.arange(COUNT * BATCH).view(COUNT, BATCH) % 4
    numbers, bits = draw(COUNT, BATCH, 2, 2, seed=2), draw(COUNT, BATCH, 4, seed=3) > 0
    for loss, target in ((cross_entropy, classes), (squared_error, numbers), (binary_cross_entropy, bits)):
        together = loss(output, target)
        for k in range(COUNT):
            close(together[k], loss(output[k], target[k]))


# --- synthetic inputs ------------------------------------------------------------------------------------


def listeners(kind: str, context: str, **given: Any) -> list[InputModel]:
    """Synthetic inputs of messages of four components."""
    found = []
    for k in range(COUNT):
        settings: dict[str, Any] = {"optimiser": {"kind": "sgd"}, "hidden": (8,), "dtype": DOUBLE, **given}
        rate, drawn = Rate(base=0.02, horizon=1), torch.Generator().manual_seed(k)
        own = INPUTS[kind](4, CONTEXTS[context], generator=drawn, rate=rate, **settings)
        own.parameters["last.weight"].data.copy_(draw(*own.parameters["last.weight"].shape, seed=k))
        found.append(own)
    return found


def heard(context: str, seed: int, *, lost: bool = False) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """What K of them hear at once."""
    rows = COUNT * BATCH
    label, place = F.one_hot(torch.arange(rows) % CLASSES, CLASSES).to(DOUBLE), draw(rows, 2, seed=seed)
    contexts = {"both": torch.cat([label, place], 1), "categorical": label, "real": place}
    return contexts.get(context), draw(rows, 4, seed=seed + 1), torch.arange(rows) % 4 > 0 if lost else None


@pytest.mark.parametrize("kind", INPUTS)
@every_context
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_inputs_expect_and_learn_what_each_does_alone(kind: str, context: str, norm: str) -> None:
    models = listeners(kind, context, norm=norm)
    bundled = StackedModels(copy.deepcopy(models), BATCH)
    for now in range(3):
        examples = [heard(context, 10 * now), heard(context, 10 * now + 5, lost=True)]
        single = [[tuple(None if v is None else parts(v)[k] for v in e) for e in examples] for k in range(3)]
        for training in (True, False):
            said = parts(bundled.predict(examples[0][0], BATCH, training=training))
            for own, alone, what in zip(models, single, said, strict=True):
                close(what, own.predict(alone[0][0], BATCH, training=training))
        losses, gradients = bundled.input_gradients(examples)
        for k, own in enumerate(models):
            loss, each = own.gradients(single[k])  # type: ignore[arg-type]
            close(losses[k], loss)
            all_close(gradients, k, each)
            own.step(each, now)
        take_steps(bundled, gradients, now)
        assert_same_numbers(bundled, models)


@pytest.mark.parametrize("kind", INPUTS)
def test_an_input_that_hears_nothing_learns_nothing(kind: str) -> None:
    models = listeners(kind, "real")
    bundled = StackedModels(copy.deepcopy(models), BATCH)
    context, message, arrived = heard("real", 3, lost=True)
    message[BATCH : 2 * BATCH] = torch.nan
    losses, gradients = bundled.input_gradients(
        [(context, message, arrived)], [torch.tensor([True, False, True])]
    )
    assert losses[1] == 0
    assert all(torch.equal(g[1], torch.zeros_like(g[1])) for g in gradients)
    assert context is not None
    assert arrived is not None
    for k in (0, 2):
        loss, alone = models[k].gradients([(parts(context)[k], parts(message)[k], parts(arrived)[k])])
        close(losses[k], loss)
        all_close(gradients, k, alone)
    assert_same_numbers(bundled, models)
