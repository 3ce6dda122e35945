"""Ridge regression of the returned gradient in closed form, with two memories: no rate, and no optimiser.

Its features are the message, the context, their products with classes, random features and the phase (`Features`). Two
regressions forget at different rates (`MEMORIES`): one follows a receiver that learns, the other averages the noise of
one that acts. A mixture of both, with weights of at least 0 whose sum is at most 1, is fitted to predictions that were made before they
were learned from: so it is also what keeps noise out. All that is summed has the unit of its own products: neither the
size of gradients nor that of messages matters.

Shapes: R rows, M components of a gradient, F features, Q memories; of stacked models each has one more leading axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from antiphon.base.extensions import gradient
from antiphon.comms.endpoint_values import PHASE
from antiphon.comms.examples import ContextSpec, Example, Numbers
from antiphon.comms.predictors import LossAndGradients, Predictor, SiteOptions, counted

MEMORIES = (0.85, 0.98)
"""Weight of the sums before an update, of each regression."""
_PRIOR = 10.0
"""Rows of the mean square of each feature, by which coefficients are drawn to zero."""
_COMPARED = 0.98
"""Weight of earlier comparisons of predictions with what returned, of which the mixture is fitted."""
_SQUARES = 0.95
"""Weight of the earlier mean square of what returned."""
_BOUND = 2.0
"""Norm of a prediction at most, in root mean squares of what returned."""
_RANDOM = 64
"""Random features."""
_WIDE = 64
"""Components of a real signal from which it is read by the random features alone."""
_PRODUCTS = 256
"""Products of two columns that are features at most."""
_ROWS = 4096
"""Rows that an update learns from at most; of more, as of the sites of maps, evenly spaced ones."""
_COMPONENTS = 64
"""Components of a gradient in which predictions are compared, evenly spaced."""


@dataclass(frozen=True)
class Features:
    """The features of rows: x = [m, c, 1, m * classes, relu(R [m, c, 1]), phase * [c, 1]].

    Left out are products that would be too many, and from c what is wide.

    Args:
        size: Components of a message.
        context: The signals of the context, in the order of their columns.
        phase: The name of the signal that is the phase, one-hot.
    """

    size: int
    context: tuple[ContextSpec, ...] = ()
    phase: str = ""
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    _narrow: list[slice] = field(default_factory=list, init=False)
    _classes: list[slice] = field(default_factory=list, init=False)
    _phase: list[slice] = field(default_factory=list, init=False)
    _random: Tensor = field(init=False)

    def __post_init__(self) -> None:
        first = 0
        for spec in self.context:
            columns = slice(first, first := first + spec.features)
            if spec.name == self.phase:
                self._phase.append(columns)
                continue
            if spec.features <= (_WIDE if spec.classes is None else _PRODUCTS):
                self._narrow.append(columns)
            if spec.classes is not None and self.size * spec.features <= _PRODUCTS:
                self._classes.append(columns)
        inputs = self.size + first - sum(columns.stop - columns.start for columns in self._phase)
        random = torch.randn(
            inputs + 1, _RANDOM, generator=torch.Generator().manual_seed(12345), dtype=torch.float64
        )
        random[:-1] /= max(inputs, 1) ** 0.5
        object.__setattr__(self, "_random", random.to(self.device, self.dtype))

    @property
    def count(self) -> int:
        """F."""
        columns = sum(spec.features for spec in self.context)
        zeros = torch.zeros(1, self.size + columns, dtype=self.dtype, device=self.device)
        x: Tensor = self(zeros[:, : self.size], zeros[:, self.size :] if columns else None)
        return int(x.shape[-1])

    @property
    def one(self) -> int:
        """The place of the constant."""
        return self.size + sum(int(columns.stop - columns.start) for columns in self._narrow)

    def __call__(self, message: Tensor, context: Tensor | None) -> Tensor:
        """Return the features, [..., R, F], of messages [..., R, size] and their context [..., R, columns]."""
        one = message.new_ones(*message.shape[:-1], 1)
        if context is None:
            return torch.cat([message, one, self._of_random([message], one)], -1)
        narrow = [context[..., columns] for columns in self._narrow]
        products = [
            (message.unsqueeze(-1) * context[..., columns].unsqueeze(-2)).flatten(-2)
            for columns in self._classes
        ]
        phases = [context[..., columns] for columns in self._phase]
        first = self._phase[0].start if phases else context.shape[-1]
        last = self._phase[0].stop if phases else context.shape[-1]
        rest = [context[..., :first], context[..., last:]]
        of_phases = []
        for phase in phases:
            with_phase = (
                [*narrow, one] if phase.shape[-1] * (self.one - self.size + 1) <= _PRODUCTS else [one]
            )
            of_phases.append((torch.cat(with_phase, -1).unsqueeze(-1) * phase.unsqueeze(-2)).flatten(-2))
        random = self._of_random([message, *rest], one)
        return torch.cat([message, *narrow, one, *products, random, *of_phases], -1)

    def _of_random(self, read: Sequence[Tensor], one: Tensor) -> Tensor:
        joined = torch.cat([*read], -1)
        size = joined.square().mean(-1, keepdim=True).sqrt()
        return torch.relu(torch.cat([joined / (size + 1e-8), one], -1) @ self._random)


def zeros(features: int, size: int) -> Numbers:
    """Return the state of a regression that has seen nothing, by name."""
    memories = len(MEMORIES)
    return {
        "gram": torch.zeros(memories, features, features),  # sum of x x'
        "moment": torch.zeros(memories, features, size),  # sum of x g'
        "maps": torch.zeros(memories, features, size),
        "map": torch.zeros(features, size),  # their mixture
        "products": torch.zeros(memories, memories),  # of predictions made before they were learned from
        "agreement": torch.zeros(memories),  # their products with what returned
        "squares": torch.zeros(2),  # running sums of squares of what returned, and of rows
    }


def predicted(state: Numbers, x: Tensor) -> Tensor:
    """Return the predictions for features [..., R, F], [..., R, M]: bounded, and zeros at first."""
    prediction = x @ state["map"]
    total, rows = state["squares"].unsqueeze(-1).unsqueeze(-1).unbind(-3)
    bound = _BOUND * (total / rows.clamp(min=1e-12)).sqrt()
    norm = torch.linalg.vector_norm(prediction, dim=-1, keepdim=True)
    shrunk: Tensor = prediction * (bound / (norm + 1e-12)).clamp(max=1.0)
    return shrunk


def learned(state: Numbers, x: Tensor, returned: Tensor, one: int, solves: Tensor | bool = True) -> Numbers:
    """Return the state after an update; where nothing returned, it is as it was.

    Args:
        x: Features, [..., R, F], zero in rows that do not count.
        returned: What returned, [..., R, M], zero there too.
        one: The place of the constant among the features.
        solves: Whether the maps are solved anew, [...] on the host; the sums are moved always.
    """
    rows = (returned != 0).any(-1).sum(-1).to(x.dtype)  # [...]
    came = rows > 0

    def kept(memory: float | Tensor, axes: int) -> Tensor:
        """The weight of what was before, with trailing axes: 1 where nothing returned."""
        weight = torch.where(came.unsqueeze(-1), torch.as_tensor(memory, dtype=x.dtype, device=x.device), 1.0)
        return weight.view(*weight.shape, *[1] * axes)

    after = dict(state)
    step = -(-returned.shape[-1] // _COMPONENTS)
    compared = returned[..., ::step]
    made = x.unsqueeze(-3) @ state["maps"][..., ::step]  # [..., Q, R, M], before they learn from it
    flat = made.flatten(-2)
    after["products"] = kept(_COMPARED, 1) * state["products"] + flat @ flat.mT
    after["agreement"] = kept(_COMPARED, 0) * state["agreement"] + (
        flat @ compared.flatten(-2).unsqueeze(-1)
    ).squeeze(-1)
    new_squares = torch.stack([returned.square().sum((-2, -1)), rows], -1)
    after["squares"] = kept(_SQUARES, 0) * state["squares"] + new_squares
    memories = x.new_tensor(MEMORIES)
    after["gram"] = kept(memories, 2) * state["gram"] + (x.mT @ x).unsqueeze(-3)
    after["moment"] = kept(memories, 2) * state["moment"] + (x.mT @ returned).unsqueeze(-3)
    solves = torch.as_tensor(solves)
    if solves.any():
        maps = solved(after["gram"], after["moment"], one)
        use = maps.isfinite().flatten(-2).all(-1) & solves.to(maps.device).unsqueeze(-1)
        after["maps"] = torch.where(use[..., None, None], maps, state["maps"])
    weights = mixture(after["products"], after["agreement"])
    after["map"] = (weights[..., None, None] * after["maps"]).sum(-3)
    return after


def solved(gram: Tensor, moment: Tensor, one: int) -> Tensor:
    """Return the coefficients of ridge regressions, [..., F, M]; of sums of nothing, zeros.

    The features are brought to one size first: float32 is enough.

    Args:
        one: The place of the constant feature, whose square is the weight of all rows.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.clamp(min=1e-30).rsqrt().unsqueeze(-1)
    prior = (_PRIOR / diagonal[..., one, None]).expand_as(diagonal)
    lower, _ = torch.linalg.cholesky_ex(scale * gram * scale.mT + torch.diag_embed(prior))
    return scale * torch.cholesky_solve(scale * moment, lower)


def mixture(products: Tensor, agreement: Tensor) -> Tensor:
    """Return the weights u of two predictions that predict best, u >= 0 with a sum of at most 1, [..., 2].

    They minimise u' S u - 2 b' u.

    Args:
        products: S, the sums of the products of predictions, [..., 2, 2].
        agreement: b, the sums of their products with what returned, [..., 2].
    """
    s, b = products.double(), agreement.double()
    s00, s01, s11 = s[..., 0, 0], s[..., 0, 1], s[..., 1, 1]
    b0, b1 = b.unbind(-1)
    tiny = torch.finfo(torch.float64).tiny

    def share(part: Tensor, whole: Tensor) -> Tensor:
        return torch.where(whole > 0, part / whole.clamp(min=tiny), 0.0).clamp(0.0, 1.0)

    ridge = 1e-6 * torch.maximum(s00, s11)  # two predictions may be one
    d0, d1 = s00 + ridge, s11 + ridge
    determinant = (d0 * d1 - s01 * s01).clamp(min=tiny)
    inner0, inner1 = (d1 * b0 - s01 * b1) / determinant, (d0 * b1 - s01 * b0) / determinant
    fits = (inner0 >= 0) & (inner1 >= 0) & (inner0 + inner1 <= 1) & (ridge > 0)
    along = share(b0 - b1 + s11 - s01, s00 + s11 - 2 * s01)
    zero = torch.zeros_like(b0)
    first = torch.stack([torch.where(fits, inner0, zero), share(b0, s00), zero, along], -1)
    second = torch.stack([torch.where(fits, inner1, zero), zero, share(b1, s11), 1 - along], -1)
    error = (
        first * first * s00[..., None]
        + 2 * first * second * s01[..., None]
        + second * second * s11[..., None]
    ) - 2 * (first * b0[..., None] + second * b1[..., None])
    best = error.argmin(-1, keepdim=True)
    return torch.stack([first.gather(-1, best), second.gather(-1, best)], -1).squeeze(-2).to(products.dtype)


@final
@gradient("ridge")
class RidgeGradient(Predictor):
    """SG = W x: ridge regressions, in closed form, of features x of m and c; no rate, no optimiser, no choice to make."""

    closed_form = True
    refuses = ("optimiser",)
    Options = SiteOptions

    def __init__(self, shape: tuple[int, ...], context: Sequence[ContextSpec], **settings: Any) -> None:
        self._place = {key: settings[key] for key in ("device", "dtype") if key in settings}
        super().__init__(shape, context, **settings)

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        self.features = Features(self.size, self.context, PHASE, **self._place)
        return {}, zeros(self.features.count, self.size)

    def _predict(self, example: Example) -> Tensor:
        return predicted(self.buffers, self.features(example.message, example.context))

    def _loss(self, example: Example) -> Tensor:
        assert example.returned is not None
        prediction = self._predict(example) if example.prediction is None else example.prediction
        error = counted(example, prediction - example.returned)
        return error.square().sum((-2, -1)) / error.shape[-2]

    @torch.no_grad()
    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Learn from examples at once; return the loss of the predictions that were made before, and no gradients."""
        read = [self.read(example).for_members() for example in examples]
        x = torch.cat([counted(e, self.features(e.message, e.context)) for e in read], -2)
        returned = torch.cat([counted(e, e.returned) for e in read if e.returned is not None], -2)
        loss = torch.stack([self._loss(example) for example in read]).sum(0)
        stride = -(-x.shape[-2] // _ROWS)
        rows = slice(self.updates % stride, None, stride)
        x, returned = x[..., rows, :], returned[..., rows, :]
        # solved where two rows for each feature have come since
        per_solution = 2 * x.shape[-1]
        solves = [
            (n + 1) * x.shape[-2] // per_solution > n * x.shape[-2] // per_solution for n in self.counts()
        ]
        due = torch.tensor(solves if self.members else solves[0])
        self.put_statistics(learned(self.buffers, x, returned, self.features.one, due))
        return loss, []
