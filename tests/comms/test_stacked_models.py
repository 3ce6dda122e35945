"""Bundles: K models as one say, learn and remember what each of them does alone."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.model import ContextSpec, Model
from antiphon.comms.stacked import StackedModels
from antiphon.comms.synthetic_gradients import Example, Predictor
from tests.comms.made import (
    AGAIN,
    BATCH,
    CASES,
    CLASSES,
    CONTEXT,
    LABEL,
    PLACE,
    draw,
    example,
    make,
    targets,
)

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


def assert_same_numbers(bundled: StackedModels, models: Sequence[Model]) -> None:
    for k, model in enumerate(models):
        for name, value in model.parameters.items():
            close(bundled.parameters[name][k].data, value.data)
        assert set(bundled.buffers) == set(model.buffers)
        for name, value in model.buffers.items():
            close(bundled.buffers[name][k], value)


def same_as_alone(models: Sequence[Predictor], name: str, context: str, *, masked: bool) -> None:
    """Three steps of the models, as one and alone; in the second, some rows are examples for some models only."""
    bundled, models = bundle(models)
    everyone = torch.ones(COUNT, dtype=torch.bool)
    some_hear = [torch.tensor([True, False, False]), torch.tensor([True, False, True])]
    for now, heard in enumerate([[everyone] * 2, some_hear, [everyone] * 2]):
        both = [told(name, context, seed=100 * now + s, masked=masked) for s in (1, 50)]
        says_the_same(bundled, models, both[0])
        for given, here in zip(both, heard, strict=True):
            for one, is_one in zip(given, here.tolist(), strict=True):
                for value in (one.message, one.context, one.delta, one.loss):
                    if value is not None and not is_one:
                        value.fill_(torch.nan)
        losses, gradients = bundled.gradients([flat(given) for given in both], heard if now == 1 else None)
        for k, own in enumerate(models):
            examples = [given[k] for given, here in zip(both, heard, strict=True) if here[k]]
            if examples:
                loss, alone = own.gradients(examples)
                close(losses[k], loss)
                all_close(gradients, k, alone)
                own.step(alone, now)
                bundled.members[k].step([gradient[k] for gradient in gradients], now)
            else:
                assert losses[k] == 0
                assert not any(gradient[k].any() for gradient in gradients)
        assert_same_numbers(bundled, models)


def says_the_same(bundled: StackedModels, models: Sequence[Predictor], examples: Sequence[Example]) -> None:
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


@every_form
def test_as_one_they_say_learn_and_remember_what_each_does_alone(name: str) -> None:
    """Plain with all context, and masked with a drawn part of it."""
    same_as_alone(several(name), name, "both", masked=False)
    context = random.Random(name).choice(list(CONTEXTS))
    same_as_alone(several(name, context), name, context, masked=True)


def test_wide_ones_too() -> None:
    """Large enough for the norm's own path for stacks."""
    bundled, models = bundle(several("mlp", hidden=(800,)))
    examples = [example(10 * k, batch=60) for k in range(COUNT)]
    losses, gradients = bundled.gradients([flat(examples)])
    for k, (own, each) in enumerate(zip(models, examples, strict=True)):
        loss, alone = own.gradients([each])
        close(losses[k], loss)
        all_close(gradients, k, alone)
