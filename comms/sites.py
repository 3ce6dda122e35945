"""Sites: one small predictor at every token or pixel of a message that has axes.

A message [T, D] has T sites (tokens) with D features, the last axis; a map [C, H, W] has H W sites (pixels) with C
features, the first axis, and so has a volume [C, X, Y, Z]. A predictor of one site's gradient, or of one site of a
message, is applied at all S sites of all B samples: its batch has B S rows, those of a sample side by side.

Numbers are in per-site units. With L the loss of a sample, the predictor's delta is S dL/dm_s, which is dl_s/dm_s where
L is the mean of losses l_s of sites; what it predicts is divided by S, and then it is the gradient of L again. So nothing
that a predictor learns from, and no rate that suits it, depends on the number of sites. A critic's value of a sample is
the mean of its sites' values, each of which models the sample's loss; losses of labels are averaged over sites alike.

Shapes: B samples, M message components, C context features, S sites, D features of a site (S D = M); stacked models have
one more leading axis, as in `Model`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from antiphon.comms.model import ContextSpec, Example, Learned, LossAndGradients
from antiphon.comms.synthetic_gradients import Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.errors import ScenarioError
from antiphon.nets.site_axes import features_first, site_axes, site_features

__all__ = ["SiteGradient", "SiteInput", "Sites", "sites_of"]

_WHOLE = ("from.state", "to.state")
"""Context that is flat, and the same at every site, whatever its size."""
_DELTA = "returned"
"""Context that is a delta, and is scaled like one."""


@dataclass(frozen=True)
class Sites:
    """The sites of a message, and what a predictor there is conditioned on.

    Attributes:
        shape: Of one message: [T, D], [C, H, W] or [C, X, Y, Z].
        context: Of the whole message, in the order in which `Example.context` holds its features. What has the axes of
            the sites (the leading ones; of maps the trailing ones) goes to each site, the rest to all of them.
        target: Of the whole message; divided like context.
    """

    shape: tuple[int, ...]
    context: tuple[ContextSpec, ...] = ()
    target: ContextSpec | None = None

    @property
    def tokens(self) -> bool:
        """Whether the features of a site are the last axis, not the first."""
        return not features_first(self.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the sites."""
        return site_axes(self.shape)

    @property
    def count(self) -> int:
        """S."""
        return torch.Size(self.axes).numel()

    @property
    def features(self) -> int:
        """D."""
        return site_features(self.shape)

    def divides(self, spec: ContextSpec) -> bool:
        """Whether each site has a part of its own of a signal."""
        count = len(self.axes)
        own = spec.shape[:count] if self.tokens else spec.shape[len(spec.shape) - count :]
        return len(spec.shape) >= count and own == self.axes and spec.name not in _WHOLE

    def at_site(self, spec: ContextSpec) -> ContextSpec:
        """Return a signal as a site has it."""
        if not self.divides(spec):
            return spec
        count = len(self.axes)
        rest = spec.shape[count:] if self.tokens else spec.shape[: len(spec.shape) - count]
        return replace(spec, shape=rest)

    def open(self, message: Tensor) -> Tensor:
        """Return messages [..., B, M], or what has their shape, by site: [..., B S, D]."""
        if self.tokens:
            return torch.unflatten(message, -1, self.shape).flatten(-3, -2)
        return torch.unflatten(message, -1, (self.features, self.count)).mT.flatten(-3, -2)

    def close(self, rows: Tensor) -> Tensor:
        """Return what `open` was given: [..., B, M] of [..., B S, D]."""
        each = torch.unflatten(rows, -2, (-1, self.count))
        return (each if self.tokens else each.mT).flatten(-2)

    def context_rows(self, context: Tensor | None) -> Tensor | None:
        """Return the features [..., B, C] of the context by site: [..., B S, C']."""
        if context is None:
            return None
        parts = torch.split(context, [spec.features for spec in self.context], -1)
        columns = [self._column(spec, part) for spec, part in zip(self.context, parts, strict=True)]
        return torch.cat(columns, -1).flatten(-3, -2)

    def target_rows(self, target: Tensor) -> Tensor:
        """Return a target [B, *shape] by site: [B S, *shape of a site]."""
        if self.target is None or not self.divides(self.target):
            return target.repeat_interleave(self.count, 0)
        return self._by_site(self.target, target, 1).flatten(0, 1)

    def example(self, example: Example) -> Example:
        """Return an example of B S rows in per-site units; what is one number per sample is repeated at its sites."""
        delta, prediction, target = example.delta, example.prediction, example.target
        return Example(
            self.open(example.message),
            self.context_rows(example.context),
            None if delta is None else self.open(delta) * self.count,
            self.repeated(example.valid),
            None if target is None else self.target_rows(target),
            None if prediction is None else self.open(prediction) * self.count,
            self.repeated(example.loss),
            example.members,
        )

    def gradient(self, rows: Tensor) -> Tensor:
        """Return gradients in per-site units, [..., B S, D], as those of samples, [..., B, M]."""
        return self.close(rows) / self.count

    def value(self, rows: Tensor) -> Tensor:
        """Return the mean over sites, [..., B] of [..., B S]."""
        return torch.unflatten(rows, -1, (-1, self.count)).mean(-1)

    def repeated(self, each: Tensor | None) -> Tensor | None:
        """Return one number per sample, [B], at its sites, [B S]."""
        return None if each is None else each.repeat_interleave(self.count)

    def _column(self, spec: ContextSpec, part: Tensor) -> Tensor:
        """Return the features [..., B, F] of one signal of the context for each site, [..., B, S, F']."""
        if not self.divides(spec):
            return part.unsqueeze(-2).expand(*part.shape[:-1], self.count, part.shape[-1])
        lead = part.dim() - 1
        shaped = torch.unflatten(part, -1, (*spec.shape, spec.classes or 1))
        column = self._by_site(spec, shaped, lead).flatten(lead + 1)
        return column * self.count if spec.name == _DELTA else column

    def _by_site(self, spec: ContextSpec, value: Tensor, lead: int) -> Tensor:
        """Return the values of a signal, [..., *shape, ...] with `lead` axes before its own, as [..., S, rest, ...]."""
        count = len(self.axes)
        if not self.tokens:
            first = lead + len(spec.shape) - count
            value = value.movedim(tuple(range(first, first + count)), tuple(range(lead, lead + count)))
        return value.flatten(lead, lead + count - 1)


def sites_of(
    shape: tuple[int, ...],
    context: Sequence[ContextSpec],
    target: ContextSpec | None = None,
    *,
    given: bool | None,
) -> Sites | None:
    """Return the sites at which a predictor of messages is applied; None: it reads messages as a whole.

    Args:
        shape: Of one message.
        context: Of the whole message.
        target: Of the whole message.
        given: Whether there are to be sites; None: where messages are [tokens, features].

    Raises:
        ScenarioError: The message has no sites; the line begins with the key.
    """
    if given and len(shape) == 1:
        raise ScenarioError(
            f"sites: a message of {shape[0]} components has none; give it a size such as "
            "[tokens, features] or [channels, height, width], or leave sites out"
        )
    if not (len(shape) == 2 if given is None else given):
        return None
    return Sites(shape, tuple(context), target)


def _adopt(own: Any, at_site: Any) -> None:
    """Give a predictor the parameters, running statistics, optimiser and settings of the one that it applies."""
    vars(own).update(vars(at_site))
    own.function = type(at_site), at_site.function
    own.at_site = at_site


def _bound(own: Any) -> Any:
    """Return the predictor that another one applies, with its present parameters and running statistics.

    They may have been replaced since: by those of a copy, a stack, or a state that was loaded.
    """
    at_site = copy.copy(own.at_site)
    at_site.stack = own.stack
    at_site.parameters, at_site.buffers, at_site.trainable = own.parameters, own.buffers, own.trainable
    return at_site


@final
class SiteGradient(Predictor):
    """A synthetic gradient that is applied at every site; its parameters are those of one site.

    Args:
        at_site: Of messages [D], with the context and the target of one site (`Sites.at_site`).
        sites: Of the whole message.

    Attributes:
        sites: Of the whole message, like `shape`, `size`, `context` and `target`.
    """

    def __init__(self, at_site: Predictor, sites: Sites) -> None:
        _adopt(self, at_site)
        vars(self).update(needs_delta=at_site.needs_delta, needs_loss=at_site.needs_loss)
        self.sites = sites
        self.shape, self.size = sites.shape, torch.Size(sites.shape).numel()
        self.context, self.target = sites.context, sites.target
        self.at_site: Predictor

    def stackable(self) -> str | None:
        return self.at_site.stackable()

    def predict(self, example: Example) -> Tensor:
        return self.sites.gradient(self._model.predict(self.sites.example(example)))

    _predict = predict  # `_model` splits the rows of a stack

    def loss(self, example: Example) -> Tensor:
        return self._model.loss(self.sites.example(example))

    def value(self, example: Example) -> Tensor:
        return self.sites.value(self._model.value(self.sites.example(example)))

    def propagated(self, example: Example) -> Tensor:
        return self.sites.gradient(self._model.propagated(self.sites.example(example)))

    def learns_with(self, example: Example) -> bool:
        at_site = self.at_site
        alone = self.stack is None and not self.frozen and example.valid is None
        return alone and not at_site.needs_delta

    def predict_and_learn(self, example: Example) -> tuple[Tensor, Learned]:
        slope, learned = self._model.predict_and_learn(self.sites.example(example))
        return self.sites.gradient(slope), learned

    def gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        each = [replace(self.sites.example(example), learned=example.learned) for example in examples]
        return self._model.gradients(each)

    @property
    def _model(self) -> Predictor:
        found: Predictor = _bound(self)
        return found


@final
class SiteInput(InputModel):
    """A synthetic input that is applied at every site; its parameters are those of one site.

    Args:
        at_site: Of messages of D components, with the context of one site (`Sites.at_site`).
        sites: Of the whole message.

    Attributes:
        sites: Of the whole message, like `size` and `context`.
    """

    def __init__(self, at_site: InputModel, sites: Sites) -> None:
        _adopt(self, at_site)
        self.sites = sites
        self.size, self.context = torch.Size(sites.shape).numel(), sites.context
        self.at_site: InputModel

    def stackable(self) -> str | None:
        return self.at_site.stackable()

    def predict(self, context: Tensor | None, rows: int, *, training: bool = True) -> Tensor:
        features, count = self.sites.context_rows(context), rows * self.sites.count
        return self.sites.close(self._model.predict(features, count, training=training))

    def loss(self, example: Example) -> Tensor:
        return self._model.loss(self.sites.example(example))

    def gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        return self._model.gradients([self.sites.example(example) for example in examples])

    @property
    def _model(self) -> InputModel:
        found: InputModel = _bound(self)
        return found
