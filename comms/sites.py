"""Sites: one small predictor at every token or pixel of a message that has axes.

A message [T, D] has T sites (tokens) with D features, the last axis; a map [C, H, W] has H W sites (pixels) with C
features, the first axis, and so does a volume [C, X, Y, Z]. A predictor of one site's gradient, or of one site of a
message, is applied at all S sites of all B samples: its batch has B S rows, the rows of a sample side by side.

Gradients are in per-site units. With L the loss of a sample, the predictor's delta is S dL/dm_s, which is dl_s/dm_s if
L is the mean of the losses l_s of the sites; its prediction is divided by S, which gives the gradient of L again. So neither
the predictor's training data nor a suitable learning rate depends on the number of sites. A critic's value of a sample is
the mean of its sites' values, each of which models the sample's loss; losses of labels are averaged over sites too.

Shapes: B samples, M message components, C context features, S sites, D features of a site (S D = M); stacked models have
one more leading axis, as in `Model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.comms.endpoint_values import ENDPOINT_VALUES, STATES
from antiphon.comms.examples import ContextSpec, Example


@dataclass(frozen=True)
class Sites:
    """The sites of a message, and the context of a predictor at each site.

    Attributes:
        shape: Shape of one message: [T, D], [C, H, W] or [C, X, Y, Z].
        context: Context of the whole message, in the order of the features in `Example.context`. A signal with the axes of
            the sites (leading axes; for maps trailing axes) is divided among the sites, others go to every site.
        target: Target of the whole message; divided like context.
    """

    shape: tuple[int, ...]
    context: tuple[ContextSpec, ...] = ()
    target: ContextSpec | None = None

    @property
    def tokens(self) -> bool:
        """Whether the features of a site are the last axis, not the first."""
        return len(self.shape) < 3

    @property
    def axes(self) -> tuple[int, ...]:
        return self.shape[:-1] if self.tokens else self.shape[1:]

    @property
    def count(self) -> int:
        """S."""
        return torch.Size(self.axes).numel()

    @property
    def features(self) -> int:
        """D."""
        return self.shape[-1] if self.tokens else self.shape[0]

    def _site_axes_of(self, spec: ContextSpec) -> int:
        """How many axes of a signal are those of the sites; 0: it goes to every site whole."""
        if spec.name in STATES.values():
            return 0
        if self.tokens:
            return len(self.axes) * (spec.shape[: len(self.axes)] == self.axes)
        axes = self.axes
        while axes:
            if spec.shape[-len(axes) :] == axes:
                return len(axes)
            if axes[-1] != 1:
                return 0
            axes = axes[:-1]  # messages [C, L, 1] are those of a `Conv1d`, whose signals have no such axis
        return 0

    def at_site(self, spec: ContextSpec) -> ContextSpec:
        count = self._site_axes_of(spec)
        rest = spec.shape[count:] if self.tokens else spec.shape[: len(spec.shape) - count]
        return spec._replace(shape=rest)

    def open(self, message: Tensor) -> Tensor:
        """Return messages [..., B, M], or tensors of their shape, by site: [..., B S, D]."""
        if self.tokens:
            return torch.unflatten(message, -1, self.shape).flatten(-3, -2)
        return torch.unflatten(message, -1, (self.features, self.count)).mT.flatten(-3, -2)

    def close(self, rows: Tensor) -> Tensor:
        """Undo `open`: return [..., B, M] from [..., B S, D]."""
        by_site = torch.unflatten(rows, -2, (-1, self.count))
        return (by_site if self.tokens else by_site.mT).flatten(-2)

    def context_rows(self, context: Tensor | None) -> Tensor | None:
        """Return the features [..., B, C] of the context by site: [..., B S, C']."""
        if context is None:
            return None
        parts = torch.split(context, [spec.features for spec in self.context], -1)
        columns = [self._column(spec, features) for spec, features in zip(self.context, parts, strict=True)]
        return torch.cat(columns, -1).flatten(-3, -2)

    def target_rows(self, target: Tensor) -> Tensor:
        """Return a target [B, *shape] by site: [B S, *shape of a site]."""
        if self.target is None or not self._site_axes_of(self.target):
            return target.repeat_interleave(self.count, 0)
        return self._by_site(self.target, target, 1).flatten(0, 1)

    def example(self, example: Example) -> Example:
        """Return an example of B S rows in per-site units; a number per sample is repeated at its sites."""
        delta, prediction, target = example.returned, example.prediction, example.target
        return replace(
            example,
            message=self.open(example.message),
            context=self.context_rows(example.context),
            returned=None if delta is None else self.open(delta) * self.count,
            valid=example.valid.map(self.repeated),
            target=None if target is None else self.target_rows(target),
            sites=None if example.sites is None else self.target_rows(example.sites),
            prediction=None if prediction is None else self.open(prediction) * self.count,
            loss=None if example.loss is None else self.repeated(example.loss),
        )

    def repeated(self, values: Tensor) -> Tensor:
        """Return one number per sample, [B], at its sites, [B S]."""
        return values.repeat_interleave(self.count)

    def _column(self, spec: ContextSpec, features: Tensor) -> Tensor:
        """Return the features [..., B, F] of one signal of the context for each site, [..., B, S, F']."""
        if not self._site_axes_of(spec):
            return features.unsqueeze(-2).expand(*features.shape[:-1], self.count, features.shape[-1])
        lead = features.dim() - 1
        shaped = torch.unflatten(features, -1, (*spec.shape, spec.classes or 1))
        column = self._by_site(spec, shaped, lead).flatten(lead + 1)
        is_delta = spec.name in ENDPOINT_VALUES and ENDPOINT_VALUES[spec.name].is_returned
        return column * self.count if is_delta else column

    def _by_site(self, spec: ContextSpec, value: Tensor, lead: int) -> Tensor:
        """Return the values of a signal, [..., *shape, ...] with `lead` axes before its own, as [..., S, rest, ...]."""
        count = self._site_axes_of(spec)
        if not self.tokens:
            first = lead + len(spec.shape) - count
            value = value.movedim(tuple(range(first, first + count)), tuple(range(lead, lead + count)))
        return value.flatten(lead, lead + count - 1)


def sites_of(
    shape: tuple[int, ...],
    context: Sequence[ContextSpec],
    target: ContextSpec | None = None,
    *,
    use_sites: bool | None,
    point: str,
) -> Sites | None:
    """Return the sites at which a predictor of messages is applied; None: it reads whole messages.

    Args:
        use_sites: Whether sites are used; None: only if messages are [tokens, features].
        point: `gradient` or `input`, for the error.
    """
    if use_sites and len(shape) == 1:
        raise ScenarioError(
            f"{point}.sites: a message of {shape[0]} components has no sites; give it a size such as "
            "[tokens, features] or [channels, height, width], or leave sites out"
        )
    if not (len(shape) == 2 if use_sites is None else use_sites):
        return None
    return Sites(shape, tuple(context), target)
