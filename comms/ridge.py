"""Ridge regression of the returned gradient in closed form, with two memories: no rate, and no optimiser.

Its features are the message, the context, their products with classes, random features and the phase (`Features`). Two
regressions forget at different rates (`MEMORIES`): one follows a receiver that learns, the other averages the noise of
one that acts. A mixture of both, with weights of at least 0 whose sum is at most 1, is fitted to predictions that were made before they
were learned from: so it is also what keeps noise out. All that is summed has the unit of its own products: neither the
size of gradients nor that of messages matters.

Shapes: R rows, M components of a gradient, F features, Q memories; of stacked models each has one more leading axis.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import linear

from antiphon.base.extensions import gradient
from antiphon.base.tools import by_key
from antiphon.comms.endpoint_values import PHASE
from antiphon.comms.examples import ContextSpec, Example, Numbers, columns_of
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
"""Random features where no signal of the context is a class."""
_RANDOM_WITH_CLASSES = 32
_WIDE = 256
"""Columns of a signal above which it is read by the random features alone."""
_MESSAGE = 128
"""Components of a message above which it is projected."""
_PRODUCTS = 128
"""Products of two columns that are features at most."""
_WORK = 2**24
"""Multiplications for the sums of an update: of more rows, as of the sites of maps, it learns from evenly spaced ones."""
_TIE = 1e-4
"""Share of the larger square of predictions, by which two that are nearly the same are told apart."""
_ROUNDING = 1e-12
"""Share of the larger square, within which the first of several weights is taken: two memories agree after one update."""
_WEIGHTS = tuple((i / 50, j / 50) for i in range(51) for j in range(51 - i))
"""What the weights of two predictions may be; zeros first."""
_COMPARED_ROWS = 64
"""Rows of an update in which predictions are compared at most, evenly spaced."""
_COMPONENTS = 64
"""Components of a gradient in which predictions are compared, evenly spaced."""


@dataclass
class Features:
    """The features of rows: x = [m, c, 1, relu(R [m, c]), m * classes, phase * [c, 1]].

    A wide m is projected to fewer components at random. Left out are products that would be too many, and from c what is wide.

    Args:
        context: The signals of the context, in the order of their columns.
        phase: The name of the signal that is the phase, one-hot.

    Attributes:
        read_size: Components of a message as it is read, beside the random features.
        one: The place of the constant.
    """

    size: int
    context: tuple[ContextSpec, ...] = ()
    phase: str = ""
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        self.read_size = min(self.size, _MESSAGE)
        placed = columns_of(self.context)
        self._phase = next((columns for spec, columns in placed if spec.name == self.phase), None)
        signals = [(spec, columns) for spec, columns in placed if columns is not self._phase]
        self._signals = [columns for _, columns in signals]
        self._narrow = [columns for spec, columns in signals if spec.features <= _WIDE]
        coded = [(spec, columns) for spec, columns in signals if spec.classes is not None]
        self._classes = [columns for spec, columns in coded if self.read_size * spec.features <= _PRODUCTS]
        self.one = self.read_size + sum(spec.features for spec, _ in signals if spec.features <= _WIDE)
        inputs = self.size + sum(spec.features for spec, _ in signals)
        generator = torch.Generator().manual_seed(12345)
        count = _RANDOM_WITH_CLASSES if coded else _RANDOM
        random = torch.randn(inputs + 1, count, generator=generator, dtype=torch.float64)
        weight, bias = random.to(self.device, self.dtype).mT.contiguous().tensor_split([inputs], 1)
        self._random, self._read = (weight, bias.squeeze(1)), None
        if self.size > self.read_size:
            read = torch.randn(self.size, self.read_size, generator=generator, dtype=torch.float64)
            self._read = (read / self.size**0.5).to(self.device, self.dtype)

    @property
    def count(self) -> int:
        """F."""
        columns = sum(spec.features for spec in self.context)
        zeros = torch.zeros(1, self.size + columns, dtype=self.dtype, device=self.device)
        x: Tensor = self(zeros[:, : self.size], zeros[:, self.size :] if columns else None)
        return int(x.shape[-1])

    def __call__(self, message: Tensor, context: Tensor | None) -> Tensor:
        """Return the features, [..., R, F], of messages [..., R, size] and their context [..., R, columns]."""
        signals, narrow, classes = (
            [] if context is None else [context[..., columns] for columns in places]
            for places in (self._signals, self._narrow, self._classes)
        )
        read = message if self._read is None else message @ self._read
        constant = [*narrow, message.new_ones(*message.shape[:-1], 1)]
        inputs = torch.cat([message, *signals], -1)
        norm = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
        random = torch.relu_(linear(inputs / (norm + 1e-8), *self._random))
        products = [_products(read, one_hot) for one_hot in classes]
        if context is not None and self._phase is not None:
            phase = context[..., self._phase]
            few = phase.shape[-1] * (self.one - self.read_size + 1) <= _PRODUCTS
            products.append(_products(torch.cat(constant, -1) if few else constant[-1], phase))
        return torch.cat([read, *constant, random, *products], -1)


def _products(left: Tensor, right: Tensor) -> Tensor:
    """All products of two columns, [..., A * B], of [..., A] and [..., B]."""
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2)


def zeros(features: int, size: int) -> Numbers:
    """Return the state of a regression that has seen nothing, by name."""
    memories = len(MEMORIES)
    return {
        "sums": torch.zeros(memories, features, features + size),  # of x [x, g]'
        "maps": torch.zeros(memories, features, size),
        "map": torch.zeros(features, size),  # the mixture
        "bound": torch.zeros(()),  # the norm of a prediction at most
        # products of the predictions made before they were learned from, of what returned, and of ones where any did
        "compared": torch.zeros(memories + 2, memories + 2),
    }


def predicted(state: Numbers, x: Tensor) -> Tensor:
    """Return the predictions for features [..., R, F], [..., R, M]: bounded, and zeros at first."""
    prediction = x @ state["map"]
    norm = torch.linalg.vector_norm(prediction, dim=-1, keepdim=True)
    shrunk: Tensor = prediction * (state["bound"][..., None, None] / (norm + 1e-30)).clamp_(max=1.0)
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
    some = returned.flatten(-2).any(-1)  # a stacked model may have seen nothing
    x = x * some[..., None, None]
    step = -(-returned.shape[-1] // _COMPONENTS)
    rows = slice(None, None, -(-returned.shape[-2] // _COMPARED_ROWS))
    compared = returned[..., rows, ::step]
    came = compared.any(-1, keepdim=True).to(x.dtype).expand_as(compared)
    made = x[..., rows, :].unsqueeze(-3) @ state["maps"][..., ::step]  # before they learn from it
    all_made = torch.cat([made, compared.unsqueeze(-3), came.unsqueeze(-3)], -3).flatten(-2)
    weights = torch.where(some[..., None], _on_device((*MEMORIES, _COMPARED), x.device, x.dtype), 1.0)[
        ..., None, None
    ]
    after["compared"] = torch.addcmul(all_made @ all_made.mT, weights[..., -1, :, :], state["compared"])
    products = x.mT @ torch.cat([x, returned], -1)
    after["sums"] = torch.addcmul(products.unsqueeze(-3), weights[..., :-1, :, :], state["sums"])
    solves = torch.as_tensor(solves)
    if not solves.any():
        return after
    maps = solved(after["sums"], one)
    compared = after["compared"]
    mix = mixture(compared[..., :-2, :-2], compared[..., :-2, -2])
    mean_square = compared[..., -2, -2] * returned.shape[-1] / compared[..., -1, -1].clamp(min=1.0)
    solutions = {
        "maps": maps,
        "map": (mix[..., None, None] * maps).sum(-3),
        "bound": _BOUND * mean_square.sqrt(),
    }
    use = solves.to(x.device) & some
    for name, solution in solutions.items():
        further = (None,) * (solution.dim() - use.dim())
        after[name] = torch.where(use[(..., *further)], solution, state[name])
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
    prior = _PRIOR / diagonal[..., one, None]
    scaled = scale * gram * scale.mT
    scaled.diagonal(dim1=-2, dim2=-1).add_(prior)
    lower, _ = torch.linalg.cholesky_ex(scaled)
    return (scale * torch.cholesky_solve(scale * moment, lower)).contiguous()


@functools.cache
def _on_device(values: tuple[object, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)


def mixture(products: Tensor, agreement: Tensor) -> Tensor:
    """Return the weights u of two predictions that predict best, multiples of .02 with a sum of at most 1, [..., 2].

    They minimise u' S u - 2 b' u.

    Args:
        products: S, the sums of the products of predictions, [..., 2, 2].
        agreement: b, the sums of their products with what returned, [..., 2].
    """
    u = _on_device(_WEIGHTS, products.device, products.dtype)
    largest = products.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True)
    error = ((u @ products) * u).sum(-1) + _TIE * largest * u.square().sum(-1) - 2 * agreement @ u.mT
    least = error.amin(-1, keepdim=True) + _ROUNDING * largest
    return u[(error <= least).to(torch.uint8).argmax(-1)]


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

    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Learn from examples at once; return the loss of the predictions that were made before, and no gradients."""
        return self.together([self], [examples])[0]

    @classmethod
    @torch.no_grad()
    def together(
        cls, models: Sequence[RidgeGradient], examples: Sequence[Sequence[Example]]
    ) -> list[LossAndGradients]:
        """Let several models learn, those with as many rows and features as one stack; see `loss_and_gradients`."""
        batches = [model._batch(its) for model, its in zip(models, examples, strict=True)]
        losses: dict[int, Tensor] = {}
        for key, places in by_key((batch[0], place) for place, batch in enumerate(batches)).items():
            *_, batch, first, stride, one = key
            learners, rows = [models[place] for place in places], slice(first, None, stride)
            _, xs, returns, solves = zip(*(batches[place] for place in places), strict=True)
            x, returned = _joined(xs), _joined(returns)
            state = {
                name: _joined([model._of_stack(model.buffers[name]) for model in learners])
                for name in learners[0].buffers
            }
            loss = (predicted(state, x) - returned).square().sum((-2, -1)) / batch
            after = learned(state, x[:, rows], returned[:, rows], one, torch.tensor([*chain(*solves)]))
            parts = {
                name: value.split_with_sizes([len(x) for x in xs])
                for name, value in {**after, "loss": loss}.items()
            }
            for number, (place, model) in enumerate(zip(places, learners, strict=True)):
                of_model = {name: part[number] for name, part in parts.items()}
                if not model.members:
                    of_model = {name: part[0] for name, part in of_model.items()}
                losses[place] = of_model.pop("loss")
                model.put_statistics(of_model)
        return [(losses[place], []) for place in range(len(models))]

    def _of_stack(self, value: Tensor) -> Tensor:
        """A tensor with an axis of models, also of a single one."""
        return value if self.members else value.unsqueeze(0)

    def _batch(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], Tensor, Tensor, list[bool]]:
        """What a model, or stack of K, learns from at an update.

        Returns:
            A key that is equal for models that learn at once, with the rows of an example, the first row that is learned from, the
            stride, and the place of the constant at its end; x, [K, R, F], zero in rows that do not count; what returned,
            [K, R, M]; and whether there are new maps, [K].
        """
        read = [self.read(example).for_members() for example in examples]
        x = torch.cat([counted(e, self._features(e)) for e in read], -2)
        returned = torch.cat([counted(e, e.returned) for e in read if e.returned is not None], -2)
        columns, counts = self.buffers["sums"].shape[-1], self.counts()
        stride = -(-x.shape[-2] * x.shape[-1] * columns // _WORK)
        first = max(counts) % stride
        # solved at updates 1, 2, 4, 8, ... and where two rows for each column of the sums have come since
        per_solution, came = 2 * columns, len(range(first, x.shape[-2], stride))
        solves = [
            (n + 1).bit_count() == 1 or (n + 1) * came // per_solution > n * came // per_solution
            for n in counts
        ]
        shape = *x.shape[-2:], returned.shape[-1], read[0].message.shape[-2]
        return (*shape, first, stride, self.features.one), self._of_stack(x), self._of_stack(returned), solves


def _joined(stacks: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return stacks[0] if len(stacks) == 1 else torch.cat(stacks)
