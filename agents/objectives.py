"""Objectives: losses per sample of an agent's output and a target, built-in and user-defined."""

from __future__ import annotations

import copy
import math
from abc import ABC
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from operator import or_
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from antiphon.base import extensions, kinds
from antiphon.base.errors import ScenarioError, named
from antiphon.base.extensions import key_of, made, name_of
from antiphon.base.spec import Sequence as IsSequence
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Criterion
from antiphon.nets.layers import IGNORED, binary_cross_entropy, cross_entropy, site_mean, squared_error
from antiphon.nets.mask import NONE, Mask
from antiphon.nets.per_member import PerMember, scaled
from antiphon.nets.random import seed_for, torch_seeded
from antiphon.nets.user_module import per_sample

_OF_EVERY_AGENT = ("loss", "gradient_norm", "updates", "learning_rate", "parameter_norm")


class AnyObjective(ABC):
    """Declarations of every kind of objective: objectives of outputs and targets, and policies."""

    metric: str
    """Name of its metric: higher is better for `accuracy` and `return`, lower for `error` and `bits`."""
    needs_rewards: ClassVar[bool] = False
    """Whether it is a policy objective, which learns actions from rewards."""
    needs_value: ClassVar[bool] = False
    """Whether it learns values and uses them."""
    has_target: ClassVar[bool] = False
    of_network: ClassVar[bool] = False
    """Whether the network itself returns the loss."""
    labels: ClassVar[bool] = False
    """Whether its target names the class of each example, which plots of messages go by."""
    equal_in_group: ClassVar[tuple[str, ...]] = ()
    """Keys that are equal for all agents of a learning group with this kind."""
    refuses: ClassVar[frozenset[str]] = frozenset({"reward", "critic", "goal", "mask"})
    """Keys of all objectives that this kind does not have."""
    Options: ClassVar[type[kinds.Options]] = kinds.Options

    @property
    def key(self) -> Hashable:
        return type(self)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its metrics beside the loss."""
        return (self.metric,)

    def means(self, score: Tensor, count: float) -> dict[str, float]:
        """Return the mean of each metric that had a target.

        Args:
            score: The metric summed over samples, with several metrics in columns.
        """
        return {self.metric: float(score) / count}

    def numerators(self, score: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, of each of `metrics`, what a sample adds to a sum and to the number that it is divided by, and where it does.

        Args:
            score: What `score` returns, zero where there is no target.
            counts: [B]: as how many targets each sample counts.

        Returns:
            Each [B, metrics], the last one of bool.
        """
        counts = counts.unsqueeze(1)
        return score.unsqueeze(1) * counts, counts, counts > 0


class Objective(Criterion, AnyObjective):
    """Loss per sample of an output and a target, and a metric for logs and reports; its options are its attributes."""

    scores_loss: bool = False
    weight: tuple[float, ...] | None = None
    """Factor of each class, relative to the mean over the targets of a window; None: all classes count alike."""
    label_smoothing: float = 0.0
    """Share of a target that is spread evenly over the classes."""
    is_own: bool = False
    """Whether it is a user's, which may draw random numbers."""

    def __init__(self, **options: Any) -> None:
        vars(self).update(options)

    @property
    def key(self) -> Hashable:
        return type(self), *vars(self).values()

    @property
    def is_plain(self) -> bool:
        """Whether it is the standard loss of its target, without class weights, smoothing or a class that does not count."""
        return not self.is_own and self.ignore_index is None and not (self.weight or self.label_smoothing)

    def seed(self, seeds: Sequence[int]) -> None:
        """Draw the random numbers of these seeds, one for the rows of each member, in the calls that follow."""

    def score(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the metric per sample, [B]: the loss, unless the kind has another."""
        return self.loss(output, target, present)

    def refusals(self, target: str, classes: int | None) -> Iterator[tuple[str, str]]:
        """Yield keys of the kind that do not fit a target of so many classes, or of floats, each with what is wrong and the fix."""
        ignored, have = self.ignore_index, "floats" if classes is None else f"{classes} classes"
        if ignored is not None and not (ignored == IGNORED or 0 <= ignored < (classes or 0)):
            first = "" if classes is None else " from 0"
            yield "ignore_index", f"{ignored}, but '{target}' has {have}{first}; name one, or leave it out"
        if self.weight is not None and len(self.weight) != classes:
            message = f"has {len(self.weight)} numbers, but '{target}' has {have}"
            yield "weight", f"{message}; give one for each class"

    def stacking_obstacle(self) -> str | None:
        """Return why several agents cannot share it, in one line; None if they can."""
        return None


class IgnoreIndex(kinds.Options):
    """Key of the objectives of classes.

    Attributes:
        ignore_index: A class of the target that does not count, such as padding, as in `torch.nn.CrossEntropyLoss`. What a mask
            leaves out, or -100 in data of your own, never counts.
    """

    ignore_index: int | None = None


ClassWeights = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...],
    IsSequence,
    BeforeValidator(lambda weight: weight.tolist() if hasattr(weight, "tolist") else weight),
]


@extensions.objective("classification")
class Classification(Objective):
    """Cross-entropy against an integer target [B, *S]; outputs are [*S, classes], and the loss is averaged over sites S."""

    metric = "accuracy"
    labels: ClassVar[bool] = True

    class Options(IgnoreIndex):
        """Keys of classification.

        Attributes:
            weight: A factor of each class, as in `torch.nn.CrossEntropyLoss`: the losses of a window are divided by the mean
                weight of its targets. None: 1.
            label_smoothing: The share of a target that is spread evenly over the classes, as in torch.
        """

        weight: ClassWeights | None = None
        label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0

    def loss(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        weight = None if self.weight is None else output.new_tensor(self.weight)
        return cross_entropy(output, target, present, weight=weight, smoothing=self.label_smoothing)

    def target_weights(self, target: Tensor, present: Tensor | None = None) -> Tensor | None:
        if self.weight is None:
            return None
        weights = torch.tensor(self.weight, dtype=torch.float64, device=target.device)[target]
        return weights if target.dim() == 1 else site_mean(weights.flatten(1), present)

    def score(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        if target.dim() == 1:
            return (output.argmax(1) == target).to(output.dtype)
        sites = target.flatten(1)
        chosen = output.view(*sites.shape, -1).argmax(2)
        return site_mean((chosen == sites).to(output.dtype), present)

    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is None else super().size(shape, classes)


@extensions.objective("regression")
class Regression(Objective):
    """Squared error against a float target, averaged over its components."""

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        return squared_error(output, target, present)

    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is not None else super().size(shape, classes)


@final
@extensions.objective("coding")
class Coding(Objective):
    """Code length of a target under the distribution that the output defines; the metric is in bits.

    An integer target [B, *S] has a symbol per site: softmax cross-entropy over the classes, averaged over the sites, of
    outputs [*S, classes]; the metric is in bits per symbol. A float target of zeros and ones is
    a vector of independent bits: sigmoid cross-entropies, whose sum is the loss (in nats) and whose mean per
    component is the metric (as in the copy tasks, Graves et al. 2014, "Neural Turing Machines").
    """

    metric = "bits"

    class Options(IgnoreIndex):
        """Keys of code lengths."""

    def loss(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        if target.is_floating_point():
            return binary_cross_entropy(output, target, present)
        return cross_entropy(output, target, present)

    def score(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        components: int | Tensor = output.shape[1] if target.is_floating_point() else 1
        if present is not None and target.is_floating_point():
            components = present.flatten(1).sum(1).clamp(min=1)
        return self.loss(output, target, present) / (components * math.log(2))

    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        return super().size(shape, classes) if classes is not None or len(shape) < 2 else None


@final
@extensions.objective("own_loss")
class OwnLoss(Objective):
    """The loss that a user's network returns beside its output; a target only says at which steps and where it counts."""

    metric = "own_loss"
    scores_loss = True
    of_network = True

    def loss(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        return output.squeeze(1)

    def size(self, shape: tuple[int, ...], classes: int | None) -> int:
        return 1


@final
class OwnObjective(Objective):
    """A user's objective. Those with equal keys are the same function; errors name it and its owner, such as `agents.eye`."""

    is_own = True

    def __init__(self, loss: Any, name: str, key: Hashable, owner: str = "") -> None:
        self._name, self._key = f"{owner}: {name}" if owner else name, key
        self._loss = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
        self._score = getattr(loss, "score", None)
        self._seeds: Sequence[int] = (0,)
        if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
            raise ScenarioError(
                f"{name} has parameters, which no agent would train; make them buffers, or freeze them"
            )
        self.scores_loss = not callable(self._score)
        own = getattr(loss, "metric", None)
        self.metric = "error" if self.scores_loss else "score" if own is None else str(own)
        if self.metric in _OF_EVERY_AGENT or not self.metric.isidentifier():
            raise ScenarioError(
                f"{name}: its metric is named {self.metric!r}; use another name, such as 'score'"
            )

    @property
    def key(self) -> Hashable:
        return self._key

    def seed(self, seeds: Sequence[int]) -> None:
        self._seeds = seeds

    def buffers(self) -> dict[str, Tensor]:
        return dict(self._loss.named_buffers()) if isinstance(self._loss, nn.Module) else {}

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        for name, value in buffers.items():
            path, _, last = name.rpartition(".")
            setattr(self._loss.get_submodule(path), last, value.clone())

    def loss(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        return self._called(self._on(output), output, self._with_gaps(target, present), "loss")

    def _with_gaps(self, target: Tensor, present: Tensor | None) -> Tensor:
        """Return a target; of classes with -100, as in torch, where they are not present."""
        if present is None or target.is_floating_point():
            # rows that are missing whole are left out by the caller
            if present is not None and bool((present.flatten(1).any(1) != present.flatten(1).all(1)).any()):
                raise ScenarioError(
                    f"{self._name}: components of its target are masked, which only built-in objectives of floats leave out; "
                    "mask whole examples, or use regression"
                )
            return target
        return target.masked_fill(~present, IGNORED)

    def score(self, output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        if self.scores_loss:
            return self.loss(output, target, present)
        target = self._with_gaps(target, present)
        return self._called(self._on(output).score, output, target, "score").to(output.dtype)

    def _called(self, function: Any, output: Tensor, target: Tensor, what: str) -> Tensor:
        """Call the user's loss or score once for the rows of each member, which it may mix, or once if it is `stacked`."""
        seeds = self._seeds[:1] if getattr(self._loss, "stacked", False) else self._seeds
        values, subject, rows = [], f"{self._name}: its {what}", len(output) // len(seeds)
        parts = zip(seeds, output.chunk(len(seeds)), target.chunk(len(seeds)), strict=True)
        with named(f"{self._name}, output {list(output.shape)}, target {list(target.shape)}"):
            for seed, *part in parts:
                with torch_seeded(seed_for(seed, what), output.device):
                    values.append(per_sample(subject, function(*part), rows))
        return values[0] if len(values) == 1 else torch.cat(values)

    def _on(self, output: Tensor) -> Any:
        return self._loss.to(output) if isinstance(self._loss, nn.Module) else self._loss

    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        own = getattr(self._loss, "size", None)
        size: Callable[..., int | None] = own if callable(own) else super().size
        return size(shape, classes)

    def stacking_obstacle(self) -> str | None:
        return "its objective has buffers" if self.buffers() else None


Term = tuple[Tensor, Tensor, Mask, Tensor | None]
"""An objective's loss and metric, [B] each, where it had a target, and the weights of its targets, [B] (`target_weights`)."""


@final
class Weighted(AnyObjective):
    """Weighted sum of objectives, each of a target and a share of the outputs.

    Its score has four columns for each objective, [B, 4 objectives]: loss, metric, whether it had a target, and this
    target's weight.

    Args:
        targets: The target signals, which name the objectives; `own` is a network's loss without one.
        parts: The objectives; their outputs are side by side in this order.
        weights: Factor of each loss; of a stack one for each member, where they differ.
    """

    metric = "loss"

    def __init__(
        self,
        targets: Sequence[str],
        parts: Sequence[Objective],
        sizes: Sequence[int],
        weights: Sequence[PerMember],
    ) -> None:
        self.targets, self.parts, self.weights = tuple(targets), tuple(parts), tuple(weights)
        ends = accumulate(sizes)
        self.outputs = tuple(slice(end - size, end) for size, end in zip(sizes, ends, strict=True))
        seen = [self.targets[:i].count(name) for i, name in enumerate(self.targets)]
        names = [f"{t}_{n + 1}" if n else t for t, n in zip(self.targets, seen, strict=True)]
        metrics = [objective.metric for objective in self.parts]
        taken = {*_OF_EVERY_AGENT, *(f"{name}_loss" for name in names)}
        self._names = []
        for name, metric, objective in zip(names, metrics, self.parts, strict=True):
            alone = metrics.count(metric) == 1 and (objective.of_network or metric not in taken)
            self._names.append((f"{name}_loss", metric if alone else f"{name}_{metric}"))

    @property
    def key(self) -> Hashable:
        parts = tuple(objective.key for objective in self.parts)
        return type(self), self.targets, parts, tuple(share.stop for share in self.outputs)

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(name for names in self._names for name in names)

    def combined(self, terms: Sequence[Term | None]) -> tuple[Tensor, Tensor, Mask]:
        """Return the combined loss and score, and where any objective had a target.

        Args:
            terms: Loss and metric of each objective, zero where its target is absent; None: absent everywhere.
        """
        present_terms = [
            (weight, *term) for weight, term in zip(self.weights, terms, strict=True) if term is not None
        ]
        losses = torch.stack([scaled(loss, weight) for weight, loss, *_ in present_terms]).sum(0)
        nothing, columns = torch.zeros_like(losses), []
        for term in terms:
            loss, metric, present, target_weights = (nothing, nothing, NONE, None) if term is None else term
            present_rows = present.tensor(len(losses), losses.device).to(losses.dtype)
            target_weights = present_rows if target_weights is None else target_weights
            columns += [constant(loss), constant(metric), present_rows, target_weights]
        present_anywhere = reduce(or_, (present for _, _, _, present, _ in present_terms))
        return losses, torch.stack(columns, 1), present_anywhere

    def numerators(self, score: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, metric, present, weight = score.view(len(score), -1, 4).unbind(2)
        both = [
            torch.stack(pair, 2).flatten(1)
            for pair in ((loss, metric), (weight, present), (present, present))
        ]
        return both[0], both[1], both[2] > 0

    def means(self, score: Tensor, count: float) -> dict[str, float]:
        rows = zip(self._names, score.view(-1, 4).tolist(), strict=True)
        return {
            name: total / total_weight
            for names, (loss, metric, present_count, target_weight) in rows
            for name, total, total_weight in zip(
                names, (loss, metric), (target_weight, present_count), strict=True
            )
            if total_weight
        }

    def mean_loss(self, means: Mapping[str, float], counts: Mapping[str, int]) -> float:
        """Return the mean of the combined loss from those of the objectives, and the numbers of samples, by metric."""
        names = [(weight, name) for weight, (name, _) in zip(self.weights, self._names, strict=True)]
        terms = (float(weight) * means[name] * counts[name] for weight, name in names if counts[name])
        return sum(terms) / counts["loss"]


def objective_of(kind: Any, options: Mapping[str, Any], owner: str = "") -> Objective:
    """Return the objective of a built-in or a user's kind; `owner`: whose it is, for errors of a user's."""
    objective = made("objective", kind, options)
    if isinstance(objective, Objective):
        return objective
    if not callable(objective):
        raise ScenarioError(
            f"{name_of(kind)} returned {objective!r}; return a callable of an output and a target"
        )
    return OwnObjective(objective, name_of(kind), key_of(kind, options), owner)
