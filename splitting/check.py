"""The check of a cut: the parts, one after the other, are the model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.base.errors import ScenarioError, first_line
from antiphon.nets.random import global_states, load_global_states, seed_globally
from antiphon.splitting.outputs import Output
from antiphon.splitting.parts import ModelPart, rows
from antiphon.splitting.trace import SUBMODULE, called, plain

_CLOSE = 1e-4
"""Difference that rounding makes, as a share of the largest number of a tensor."""


def check(
    model: nn.Module, parts: Sequence[ModelPart], prediction: Output, example: Mapping[str, Any]
) -> None:
    """Check that the parts have the model's prediction, gradients and buffers, in training and in evaluation.

    Both are copies with other parameters. The parts come first: if a function of theirs encloses a layer of the model, the
    layer's parameters are still the earlier ones. The example is of a batch size that was not traced.
    """
    modules, whole = copy.deepcopy([part.module for part in parts]), copy.deepcopy(model)
    mine = {key: p for module in modules for key, p in module.named_parameters(remove_duplicate=False)}
    theirs = dict(whole.named_parameters(remove_duplicate=False))
    for training in (False, True, True):  # what a call leaves in an attribute, the next one finds
        mode = " in training" if training else ""
        for module in (*modules, whole):
            module.train(training)
        try:
            with _changed(mine):
                found = _composed(parts, modules, example)
        except Exception as error:
            raise ScenarioError(
                f"the parts of the model fail{mode} ({first_line(error)}); {SUBMODULE}"
            ) from error
        with _changed(theirs):
            expected = rows([prediction.of(plain(called(whole, example)))])
        if not _alike(found, expected):
            raise _other(f"compute other results than the model{mode}")
        of_parts, of_model = _gradients(found, mine), _gradients(expected, theirs)
        for key, gradient in of_model.items():
            names = [name for name, p in theirs.items() if p is theirs[key] and name in of_parts]
            if not _alike(of_parts[names[0]] if names else None, gradient):
                raise _other(f"give '{key}' another gradient than the model{mode}")
        before = dict(model.named_buffers())
        for key, buffer in whole.named_buffers():
            held = [module.get_buffer(key) for module in modules if key in dict(module.named_buffers())]
            if not all(_alike(own, buffer) for own in held or [before[key]]):
                raise _other(f"leave another '{key}' than the model{mode}")


def _other(what: str) -> ScenarioError:
    why = "a trace keeps no attribute that a forward writes, no torch.no_grad and no branch on data"
    return ScenarioError(f"the parts {what}: {why}; {SUBMODULE}")


@contextmanager
def _changed(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Change parameters for good, and draw the same random numbers every time."""
    with torch.no_grad():
        for p in dict.fromkeys(parameters.values()):
            if p.is_floating_point() or p.is_complex():
                p.mul_(1.1).add_(0.01)
    before = global_states()
    seed_globally(5)
    try:
        with torch.enable_grad():
            yield
    finally:
        load_global_states(before)


def _composed(parts: Sequence[ModelPart], modules: Sequence[nn.Module], example: Mapping[str, Any]) -> Tensor:
    sent: dict[fx.Node, Tensor] = {}
    predicted = []
    dtype = next((p.dtype for module in modules for p in module.parameters()), torch.get_default_dtype())
    for part, module in zip(parts, modules, strict=True):
        read = [example[argument].to(dtype) for argument in part.observes]
        computed = module(rows([*read, *(sent[wire.message] for wire in part.reads)]))
        sizes = [*part.sends.values()]
        own, *messages = computed.split([computed.shape[1] - sum(sizes), *sizes], 1)
        predicted.append(own)
        sent |= zip(part.sends, messages, strict=True)
    return torch.cat(predicted, 1)


def _gradients(outputs: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor | None]:
    """The gradients of a random projection of outputs by each parameter that learns; None where it is not read."""
    learning = {key: p for key, p in parameters.items() if p.requires_grad}
    if not outputs.requires_grad:
        return dict.fromkeys(learning)
    projection = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(6)).to(outputs)
    gradients = torch.autograd.grad(outputs, [*learning.values()], projection, allow_unused=True)
    return dict(zip(learning, gradients, strict=True))


def _alike(found: Tensor | None, expected: Tensor | None) -> bool:
    if found is None or expected is None:
        return found is expected
    if found.shape != expected.shape:
        return False
    if not (expected.is_floating_point() or expected.is_complex()):
        return torch.equal(found, expected)
    largest = float(expected.data.abs().nan_to_num(0.0, 0.0, 0.0).max()) if expected.numel() else 0.0
    return torch.allclose(
        found.to(expected.dtype), expected, rtol=_CLOSE, atol=_CLOSE * largest, equal_nan=True
    )
