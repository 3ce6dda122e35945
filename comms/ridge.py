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
_BOUND = 2.0
"""Norm of a prediction at most, in root mean squares of what returned."""
_RANDOM = 64
"""Random features."""
_WIDE = 256
"""Columns of a signal above which it is read by the random features alone."""
_MESSAGE = 128
"""Components of a message above which it is projected."""
_PRODUCTS = 256
"""Products of two columns that are features at most."""
_WORK = 2**24
"""Multiplications for the sums of an update: of more rows, as of the sites of maps, it learns from evenly spaced ones."""
_TIE = 1e-4
"""Share of the larger square of predictions, by which two that are nearly the same are told apart."""
_COMPARED_ROWS = 64
"""Rows of an update in which predictions are compared at most, evenly spaced."""
_COMPONENTS = 64
"""Components of a gradient in which predictions are compared, evenly spaced."""


@dataclass(frozen=True)
class Features:
    """The features of rows: x = [m, c, 1, m * classes, relu(R [m, c, 1]), phase * [c, 1]].

    A wide m is projected to fewer components at random. Left out are products that would be too many, and from c what is wide.

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
    _phase: slice | None = field(default=None, init=False)
    _random: Tensor = field(init=False)
    _read: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        first = 0
        for spec in self.context:
            columns = slice(first, first := first + spec.features)
            if spec.name == self.phase:
                object.__setattr__(self, "_phase", columns)
                continue
            if spec.features <= _WIDE:
                self._narrow.append(columns)
            if spec.classes is not None and self.read_size * spec.features <= _PRODUCTS:
                self._classes.append(columns)
        inputs = self.size + sum(spec.features for spec in self.context if spec.name != self.phase)
        generator = torch.Generator().manual_seed(12345)
        random = torch.randn(inputs + 1, _RANDOM, generator=generator, dtype=torch.float64)
        random[:-1] /= max(inputs, 1) ** 0.5
        object.__setattr__(self, "_random", random.to(self.device, self.dtype))
        if self.size > self.read_size:
            read = torch.randn(self.size, self.read_size, generator=generator, dtype=torch.float64)
            object.__setattr__(self, "_read", (read / self.size**0.5).to(self.device, self.dtype))

    @property
    def read_size(self) -> int:
        """Components of a message as it is read, beside the random features."""
        return min(self.size, _MESSAGE)

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
        return self.read_size + sum(int(columns.stop - columns.start) for columns in self._narrow)

    def __call__(self, message: Tensor, context: Tensor | None) -> Tensor:
        """Return the features, [..., R, F], of messages [..., R, size] and their context [..., R, columns]."""
        one = message.new_ones(*message.shape[:-1], 1)
        read = message if self._read is None else message @ self._read
        if context is None:
            return torch.cat([read, one, self._of_random(message)], -1)
        narrow = [context[..., columns] for columns in self._narrow]
        products = [
            (read.unsqueeze(-1) * context[..., columns].unsqueeze(-2)).flatten(-2)
            for columns in self._classes
        ]
        if self._phase is None:
            return torch.cat([read, *narrow, one, *products, self._of_random(message, context)], -1)
        phase = context[..., self._phase]
        random = self._of_random(message, context[..., : self._phase.start], context[..., self._phase.stop :])
        constant = self.one - self.read_size
        with_phase = [*narrow, one] if phase.shape[-1] * (constant + 1) <= _PRODUCTS else [one]
        of_phase = (torch.cat(with_phase, -1).unsqueeze(-1) * phase.unsqueeze(-2)).flatten(-2)
        return torch.cat([read, *narrow, one, *products, random, of_phase], -1)

    def _of_random(self, *read: Tensor) -> Tensor:
        joined = torch.cat(read, -1)
        size = torch.linalg.vector_norm(joined, dim=-1, keepdim=True) / joined.shape[-1] ** 0.5
        return torch.relu(joined @ self._random[:-1] / (size + 1e-8) + self._random[-1])


def zeros(features: int, size: int) -> Numbers:
    """Return the state of a regression that has seen nothing, by name."""
    memories = len(MEMORIES)
    return {
        "sums": torch.zeros(memories, features, features + size),  # of x [x, g]'
        "maps": torch.zeros(memories, features, size),
        "map": torch.zeros(features, size),  # the mixture
        # products of the predictions made before they were learned from, of what returned, and of ones where any did
        "compared": torch.zeros(memories + 2, memories + 2),
    }


def predicted(state: Numbers, x: Tensor) -> Tensor:
    """Return the predictions for features [..., R, F], [..., R, M]: bounded, and zeros at first."""
    prediction = x @ state["map"]
    squares, count = state["compared"][..., -2, -2], state["compared"][..., -1, -1]
    bound = _BOUND * (squares * prediction.shape[-1] / count.clamp(min=1.0)).sqrt()
    norm = torch.linalg.vector_norm(prediction, dim=-1, keepdim=True)
    shrunk: Tensor = prediction * (bound[..., None, None] / (norm + 1e-30)).clamp(max=1.0)
    return shrunk


def learned(state: Numbers, x: Tensor, returned: Tensor, one: int, solves: Tensor | bool = True) -> Numbers:
    """Return the state after an update; where nothing returned, it is as it was.

    Args:
        x: Features, [..., R, F], zero in rows that do not count.
        returned: What returned, [..., R, M], zero there too.
        one: The place of the constant among the features.
        solves: Whether there are new maps and a new mixture, [...] on the host; the sums are moved always.
    """
    after = dict(state)
    some = (returned != 0).flatten(-2).any(-1)  # a stacked model may have seen nothing
    step = -(-returned.shape[-1] // _COMPONENTS)
    rows = slice(None, None, -(-returned.shape[-2] // _COMPARED_ROWS))
    compared = returned[..., rows, ::step]
    came = (compared != 0).any(-1, keepdim=True).to(x.dtype).expand_as(compared)
    made = x[..., rows, :].unsqueeze(-3) @ state["maps"][..., ::step]  # before they learn from it
    all_made = torch.cat([made, compared.unsqueeze(-3), came.unsqueeze(-3)], -3).flatten(-2)
    weights = torch.where(some[..., None], x.new_tensor([*MEMORIES, _COMPARED]), 1.0)[..., None, None]
    after["compared"] = torch.addcmul(all_made @ all_made.mT, weights[..., -1, :, :], state["compared"])
    products = (x * some[..., None, None]).mT @ torch.cat([x, returned], -1)
    after["sums"] = torch.addcmul(products.unsqueeze(-3), weights[..., :-1, :, :], state["sums"])
    solves = torch.as_tensor(solves)
    if not solves.any():
        return after
    maps = solved(after["sums"], one)
    mix = mixture(after["compared"][..., :-2, :-2], after["compared"][..., :-2, -2])
    use = solves.to(x.device) & some
    for name, solution in (("maps", maps), ("map", (mix[..., None, None] * maps).sum(-3))):
        after[name] = torch.where(
            use.view(*use.shape, *[1] * (solution.dim() - use.dim())), solution, state[name]
        )
    return after


def solved(sums: Tensor, one: int) -> Tensor:
    """Return the coefficients of ridge regressions, [..., F, M], by sums [..., F, F + M]; of sums of nothing, zeros.

    The features are brought to one size first: float32 is enough.

    Args:
        one: The place of the constant feature, whose square is the weight of all rows.
    """
    gram, moment = sums.tensor_split([sums.shape[-2]], -1)
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.clamp(min=1e-30).rsqrt().unsqueeze(-1)
    prior = (_PRIOR / diagonal[..., one, None]).expand_as(diagonal)
    lower, _ = torch.linalg.cholesky_ex(scale * gram * scale.mT + torch.diag_embed(prior))
    return (scale * torch.cholesky_solve(scale * moment, lower)).contiguous()


def mixture(products: Tensor, agreement: Tensor) -> Tensor:
    """Return the weights u of two predictions that predict best, u >= 0 with a sum of at most 1, [..., 2].

    They minimise u' S u - 2 b' u.

    Args:
        products: S, the sums of the products of predictions, [..., 2, 2].
        agreement: b, the sums of their products with what returned, [..., 2].
    """
    s, b = products.double(), agreement.double().unsqueeze(-2)
    largest = s.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None].clamp(min=1e-30)
    s, b = s / largest + _TIE * torch.eye(2, dtype=s.dtype, device=s.device), b / largest
    inner = torch.linalg.solve_ex(s, b.mT)[0].mT
    inner = torch.where((inner >= 0).all(-1, keepdim=True) & (inner.sum(-1, keepdim=True) <= 1), inner, 0.0)
    # the best place on each edge: (t, 0), (0, t), (t, 1 - t)
    origin, along = s.new_tensor([[0, 0], [0, 0], [0, 1]]), s.new_tensor([[1, 0], [0, 1], [1, -1]])
    slope, bend = (along * (b - origin @ s)).sum(-1), (along * (along @ s)).sum(-1)
    place = (slope / bend).clamp(0.0, 1.0).unsqueeze(-1)
    found = torch.cat([inner, origin + place * along], -2)
    error = (found * (found @ s - 2 * b)).sum(-1)
    best = error.argmin(-1)[..., None, None].expand(*error.shape[:-1], 1, 2)
    return found.gather(-2, best).squeeze(-2).to(products.dtype)


@final
@gradient("ridge")
class RidgeGradient(Predictor):
    """SG = W x: ridge regressions, in closed form, of features x of m and c; no rate, no optimiser, no choice to make."""

    closed_form = True
    refuses = "optimiser", "gate"
    Options = SiteOptions

    def __init__(self, shape: tuple[int, ...], context: Sequence[ContextSpec], **settings: Any) -> None:
        self._place = {key: settings[key] for key in ("device", "dtype") if key in settings}
        super().__init__(shape, context, **settings)

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        self.features = Features(self.size, self.context, PHASE, **self._place)
        return {}, zeros(self.features.count, self.size)

    @torch.no_grad()
    def predict(self, example: Example) -> Tensor:
        """Return the prediction, [rows, M], and keep the features with the example."""
        read = self.read(example)
        prediction = self._as_gradients(self._predict(read))
        example.features = read.features
        return prediction

    def _predict(self, example: Example) -> Tensor:
        return predicted(self.buffers, self._features(example))

    def _features(self, example: Example) -> Tensor:
        if example.features is None:
            example.features = self.features(example.message, example.context)
        return example.features

    def _loss(self, example: Example) -> Tensor:
        assert example.returned is not None
        prediction = self._predict(example) if example.prediction is None else example.prediction
        error = counted(example, prediction - example.returned)
        return error.square().sum((-2, -1)) / error.shape[-2]

    @torch.no_grad()
    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Learn from examples at once; return the loss of the predictions that were made before, and no gradients."""
        read = [self.read(example).for_members() for example in examples]
        x = torch.cat([counted(e, self._features(e)) for e in read], -2)
        returned = torch.cat([counted(e, e.returned) for e in read if e.returned is not None], -2)
        loss = torch.stack([self._loss(example) for example in read]).sum(0)
        columns = self.buffers["sums"].shape[-1]
        stride = -(-x.shape[-2] * x.shape[-1] * columns // _WORK)
        counts = self.counts()
        rows = slice(max(counts) % stride, None, stride)
        x, returned = x[..., rows, :], returned[..., rows, :]
        # solved at updates 1, 2, 4, 8, ... and where two rows for each column of the sums have come since
        per_solution = 2 * columns
        solves = [
            (n + 1).bit_count() == 1
            or (n + 1) * x.shape[-2] // per_solution > n * x.shape[-2] // per_solution
            for n in counts
        ]
        due = torch.tensor(solves if self.members else solves[0])
        self.put_statistics(learned(self.buffers, x, returned, self.features.one, due))
        return loss, []
