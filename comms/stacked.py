"""Many lone predictors of one shape computed in one call, with the same results.

Those without hidden layers are linear maps, stacked for the call alone (`LinearMaps`); others are computed one by one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from antiphon.comms.model import Example, LinearMaps, LossAndGradients
from antiphon.comms.synthetic_gradients import Predictor

__all__ = ["gradients_all", "predict_all"]

_LARGEST = 1 << 14
"""Largest input, in elements, that is stacked: copying larger ones costs more than it saves."""
Requests = Sequence[tuple[Predictor, Sequence[Example]]]


def predict_all(requests: Sequence[tuple[Predictor, Example]], *, learn: bool = False) -> list[Tensor]:
    """Return each predictor's synthetic gradient per sample, [rows, M], in order; no graph is kept.

    Args:
        requests: The predictors, each with an example.
        learn: Whether training on the same examples follows: where it takes no second evaluation, they get `learned`.
    """
    found: dict[int, Tensor] = {}
    for places, maps, together in _stacks([(one, [example]) for one, example in requests], reuse=False):
        found.update(zip(places, maps.prediction(together).unbind(), strict=True))
    for i, (predictor, example) in enumerate(requests):
        if i not in found and learn and predictor.learns_with(example):
            found[i], example.learned = predictor.predict_and_learn(example)
        elif i not in found:
            found[i] = predictor.predict(example)
    return [found[i] for i in range(len(requests))]


def gradients_all(requests: Requests) -> list[LossAndGradients]:
    """Return each predictor's loss, summed over its examples, and its gradients, in order."""
    found: dict[int, LossAndGradients] = {}
    for places, maps, example in _stacks(requests, reuse=True):
        losses, gradients = maps.learned([example])
        each = zip(*(gradient.unbind() for gradient in gradients), strict=True)
        found.update(zip(places, zip(losses.unbind(), map(list, each), strict=True), strict=True))
    return [
        found[i] if i in found else predictor.gradients(examples)
        for i, (predictor, examples) in enumerate(requests)
    ]


def _stacks(requests: Requests, *, reuse: bool) -> Iterator[tuple[list[int], LinearMaps, Example]]:
    """Places of lone linear maps of one shape with one example each, these maps stacked, and their examples.

    One that is the only one of its shape is a stack of one, to the bits that it has beside others. To `reuse` predictions, no
    parameter is read where they are known: the first's stand for all.
    """
    groups: dict[Hashable, list[tuple[int, LinearMaps]]] = {}
    for i, (predictor, examples) in enumerate(requests):
        if predictor.stack is not None or len(examples) > 1 or examples[0].message.numel() > _LARGEST:
            continue
        maps, target, rows = (
            predictor.linear_maps(predictor.parameters),
            predictor.target,
            examples[0].message,
        )
        if maps is not None:
            kind = None if target is None else (target.shape, target.classes)
            groups.setdefault((type(predictor), kind, rows.shape, maps.weights.shape), []).append((i, maps))
    for group in groups.values():
        places, each = zip(*group, strict=True)
        example, first = _batched([requests[i][1][0] for i in places]), each[0]
        if reuse and first.reuses and example.prediction is not None:
            weights, biases = first.weights.unsqueeze(0), first.biases.unsqueeze(0)
        else:
            weights, biases = (
                torch.stack([getattr(maps, name) for maps in each]) for name in ("weights", "biases")
            )
        yield list(places), replace(first, weights=weights, biases=biases), example


def _batched(examples: Sequence[Example]) -> Example:
    """Stack one example of each predictor, [K, B, …]."""
    names = ("message", "context", "delta", "target", "prediction")
    fields = {name: _stack([getattr(example, name) for example in examples]) for name in names}
    if any(example.valid is not None for example in examples):
        rows = torch.ones(len(examples[0].message), dtype=torch.bool, device=examples[0].message.device)
        fields["valid"] = torch.stack([rows if one.valid is None else one.valid for one in examples])
    return Example(**fields)  # type: ignore[arg-type]  # every example has a message


def _stack(values: Sequence[Tensor | None]) -> Tensor | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if all(value is known[0] for value in known):  # as a context of the same signals is
        return known[0].expand(len(known), *known[0].shape)
    return torch.stack(known)
