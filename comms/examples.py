"""Training examples of predictors of gradients and of messages, and the context signals they are conditioned on, encoded
as features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from operator import or_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antiphon.nets.mask import ALL, Mask, Members


class ContextSpec(NamedTuple):
    """One signal of a context."""

    name: str
    shape: tuple[int, ...]
    classes: int | None = None
    """Number of values of a categorical signal; None for floats."""

    @property
    def features(self) -> int:
        """Columns of this signal in the encoding."""
        return int(torch.Size(self.shape).numel()) * (self.classes or 1)


def columns_of(specs: Sequence[ContextSpec]) -> list[tuple[ContextSpec, slice]]:
    """Return the place of each signal among the columns of the encoding."""
    ends = accumulate(spec.features for spec in specs)
    return [(spec, slice(end - spec.features, end)) for spec, end in zip(specs, ends, strict=True)]


def encode(specs: Sequence[ContextSpec], signals: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor | None:
    """Return the context as [B, features]: categorical signals one-hot, others flat; None without signals.

    Sites that a signal does not have, by its mask `_name` [B, *S] (or [B, 1] of a signal without sites), are zeros.
    """
    columns = []
    for spec in specs:
        value, mask = signals[spec.name], signals.get(f"_{spec.name}")
        sites = mask if mask is not None and mask.dim() > 1 else None
        if sites is not None:
            value = value.where(sites.view(value.shape), 0)
        if spec.classes is not None:
            one_hot = torch.zeros(*value.shape, spec.classes, dtype=dtype, device=value.device)
            ones = 1.0 if sites is None else sites.view(value.shape).unsqueeze(-1).to(dtype)
            one_hot.scatter_(-1, value.unsqueeze(-1), ones)
            columns.append(one_hot.flatten(1))
        else:
            columns.append(value.to(dtype).reshape(len(value), -1))
    if not columns:
        return None
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


def target_of(
    signals: Mapping[str, Tensor], name: str, ignored: int | None = None
) -> tuple[Tensor, Mask, Tensor | None]:
    """Return a target [B, …], zeros where it is absent, the rows that have one, and the sites; None: all.

    Where it is present is the signal `_name`: a mask of rows [B], of sites [B, *S], or [B, 1] of a target without sites. The
    class `ignored` is absent.
    """
    target, present, sites = signals[name], signals.get(f"_{name}"), None
    of_rows = -1, *[1] * (target.dim() - 1)
    if ignored is not None:
        counted = target != ignored
        if present is not None:
            counted &= present.view(of_rows if present.dim() == 1 else target.shape)
        present = counted
    if present is None:
        return target, ALL, None
    if present.dim() > 1:
        sites, present = present.view(target.shape), present.flatten(1).any(1)
        target = target.where(sites, 0)
    target = target.where(present.view(of_rows), 0)
    return target, Mask.of(present), sites if target.dim() > 1 else None


Numbers = dict[str, Tensor]


class Criterion(ABC):
    """How an output is compared with a target: an agent's objective."""

    ignore_index: int | None = None
    """Class of the target that does not count; None: all that are present do."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the loss per sample, [B], of output [B, size].

        Args:
            target: [B, *S].
            present: [B, *S] bool: the sites, or components, that the target has; None: all.
        """

    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        """Return the output size that a target of this shape needs, or None if the target does not fit."""
        return ContextSpec("", shape, classes).features

    def target_weights(self, target: Tensor, present: Tensor | None = None) -> Tensor | None:
        """Return the weight of each sample's target, [B], by whose sum the sum of the losses is divided; None: 1 each."""
        return None

    def buffers(self) -> Numbers:
        """Return what the loss keeps between calls: the buffers of a user's module."""
        return {}

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Use copies of other buffers; the tensors of before are unchanged."""
        assert not buffers  # it keeps none


@dataclass(slots=True)
class Learned:
    """Results of one evaluation of a predictor's own loss beside its gradient: the training step on all rows of the example."""

    loss: Tensor
    gradients: list[Tensor | None]
    buffers: Numbers


_OF_ROWS = "message", "context", "returned", "target", "sites", "prediction", "loss"


@dataclass(slots=True)
class Example:
    """Training example of a predictor: one message whose gradient was returned, or one that was received."""

    message: Tensor
    """[B, M], as sent; for synthetic inputs as received."""
    context: Tensor | None
    """[B, C], the features that the predictor was conditioned on."""
    returned: Tensor | None
    """[B, M], the returned gradient per sample; None for predictors that do not need it."""
    valid: Mask = ALL
    """The environments that count."""
    target: Tensor | None = None
    """[B] or [B, …]: the target of `local` and `sobolev_label`."""
    sites: Tensor | None = None
    """[B, …] bool: the sites that the target has; None: all."""
    prediction: Tensor | None = None
    """[B, M], the prediction, if it was made with the predictor's present parameters."""
    features: Tensor | None = None
    """What a predictor in closed form has made of message and context, by site and model as it reads them."""
    loss: Tensor | None = None
    """[B], the receiver's loss per sample; None for predictors that do not need it."""
    member_mask: Mask[Members] = ALL
    """Of K stacked predictors: the ones that learn from it."""
    learned: Learned | None = None
    """The training step on it with the predictor's present parameters, if computed with the prediction."""
    stamp: int = -1
    """The step at which the message was sent; -1: not known, in a loop of a user's own."""

    def restrict(self, rows: Mask, member_mask: Mask[Members]) -> None:
        """Let it be an example in these rows alone, and for these of K stacked predictors."""
        self.valid &= rows
        self.member_mask = member_mask
        if self.valid is not ALL:  # it was computed on all rows
            self.learned = None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Example:
        """Return the example with a function applied to every tensor that has rows."""
        columns = ((name, getattr(self, name)) for name in _OF_ROWS)
        changed: dict[str, Any] = {name: change(column) for name, column in columns if column is not None}
        return replace(self, valid=self.valid.map(change), **changed)

    def for_members(self) -> Example:
        """Return an example [K, B, …] with no valid row, and zeros, for the models that are not in its `member_mask`.

        The zeros matter to backward: a mask's zero times a value that is not finite is NaN.
        """
        mask = self.member_mask
        if mask is ALL:
            return self
        example, shape = self.mapped(mask.zero_elsewhere), self.message.shape[:2]
        example.valid = self.valid & mask.map(lambda models: models.unsqueeze(1).expand(shape))
        return example


def united_members(examples: Sequence[Example]) -> Mask[Members]:
    """Return the members of a stack that learn from one of the examples."""
    return reduce(or_, (example.member_mask for example in examples))
