"""Objectives: losses per sample of an agent's output and a target, antiphon's own and users'."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from antiphon import extensions, kinds
from antiphon.errors import ScenarioError
from antiphon.extensions import key_of, made, name_of
from antiphon.nets.layers import binary_cross_entropy, cross_entropy, squared_error
from antiphon.nets.modules import per_sample

__all__ = [
    "ActionValue",
    "Classification",
    "Coding",
    "Objective",
    "OwnObjective",
    "Regression",
    "objective_of",
]


def _components(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


class Objective(ABC):
    """Loss per sample, and its metric for reports."""

    metric: str
    """Name of what `score` returns: higher is better for `accuracy`, lower for `error` and `bits`."""
    scores_loss: bool = False
    """Whether the metric is the loss itself."""
    needs_rewards: ClassVar[bool] = False
    """Whether it learns from rewards what to do."""
    refuses: ClassVar[frozenset[str]] = frozenset({"reward", "critic", "goal"})
    """Keys of every objective that the kind does not have."""
    Options: ClassVar[type[kinds.Options]] = kinds.Options
    """The keys that it has of its own."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss per sample, [B], of output [B, size]."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the metric per sample, [B]."""

    @abstractmethod
    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        """Return the output size that a target of this shape needs, or None where the target does not fit."""

    @property
    def key(self) -> Hashable:
        """A key of the function that it computes."""
        return type(self)

    def stackable(self, outputs: int, target: tuple[int, ...], classes: int | None) -> str | None:
        """Return why the rows of several agents cannot be one batch, in one line; None: they can.

        Args:
            outputs: Of an agent.
            target: Shape of one sample of the target.
            classes: Of a categorical target; None: floats.
        """
        return None


@extensions.objective("classification")
class Classification(Objective):
    """Cross-entropy against an integer target [B, *S]; outputs are laid out [*S, classes], and sites S averaged."""

    metric = "accuracy"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        if target.dim() == 1:
            return (output.argmax(1) == target).to(output.dtype)
        sites = target.flatten(1)
        chosen = output.view(*sites.shape, -1).argmax(2)
        return (chosen == sites).to(output.dtype).mean(1)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is None else _components(shape) * classes


@extensions.objective("regression")
class Regression(Objective):
    """Squared error against a float target, averaged over its components."""

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is not None else _components(shape)


@final
@extensions.objective("coding")
class Coding(Objective):
    """Code length of a target under the output as its model; the metric is in bits.

    An integer target [B, *S] is a symbol per site: softmax cross-entropy over the classes, averaged over the sites, of
    outputs laid out [*S, classes]; the metric is in bits per symbol. A float target of zeros and ones is
    a vector of independent bits: sigmoid cross-entropies, whose sum is the loss (in nats) and whose mean per
    component is the metric (the form of the copy tasks, Graves et al. 2014, "Neural Turing Machines").
    """

    metric = "bits"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return binary_cross_entropy(output, target)
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        components = output.shape[1] if target.is_floating_point() else 1
        return self.loss(output, target) / (components * math.log(2))

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        if classes is not None:
            return _components(shape) * classes
        return _components(shape) if len(shape) < 2 else None


@final
class ActionValue(Objective):
    """Squared error of an acting agent's estimate of one number, such as the reward, for the action that it takes.

    It has an output per discrete action; the largest is the action taken, and the only one with a target.
    """

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output.max(1, keepdim=True).values, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return self.loss(output, target)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None  # as many as there are actions


@final
class OwnObjective(Objective):
    """A user's objective.

    Args:
        loss: The object.
        name: For errors.
        key: Equal for objectives that are the same function.

    Raises:
        ScenarioError: It has parameters, which no agent would train, or a metric of another objective's name.
    """

    def __init__(self, loss: Any, name: str, key: Hashable) -> None:
        self._name, self._key = name, key
        self._loss = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
        self._score = getattr(loss, "score", None)
        if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
            raise ScenarioError(
                f"{name} has parameters, which nothing would train; make them buffers, or freeze them"
            )
        self.scores_loss = not callable(self._score)
        self.metric = "error" if self.scores_loss else str(getattr(loss, "metric", "score"))
        if self.metric == "loss" or not self.metric.isidentifier():
            raise ScenarioError(
                f"{name}: its metric is named {self.metric!r}; use a word of its own, such as 'score'"
            )

    @property
    def key(self) -> Hashable:
        return self._key

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return per_sample(f"{self._name}: its loss", self._on(output)(output, target), len(output))

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        if self.scores_loss:
            return self.loss(output, target)
        return per_sample(f"{self._name}: its score", self._on(output).score(output, target), len(output)).to(
            output.dtype
        )

    def _on(self, output: Tensor) -> Any:
        return self._loss.to(output) if isinstance(self._loss, nn.Module) else self._loss

    def size(self, shape: tuple[int, ...], classes: int | None) -> int | None:
        own = getattr(self._loss, "size", None)
        if callable(own):
            needed: int | None = own(shape, classes)
            return needed
        return _components(shape) * (1 if classes is None else classes)

    def stackable(self, outputs: int, target: tuple[int, ...], classes: int | None) -> str | None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            output = torch.rand(4, outputs, dtype=torch.float64)
            some = torch.rand(4, *target, dtype=torch.float64)
            if classes is not None:
                some = torch.randint(classes, (4, *target))
            state = torch.get_rng_state()
            try:
                whole = self.loss(output, some)
                parts = torch.cat([self.loss(output[i : i + 2], some[i : i + 2]) for i in (0, 2)])
            except Exception as error:  # noqa: BLE001  (anything a user's object may raise)
                reason = (str(error) or type(error).__name__).splitlines()[0]
                return f"its objective cannot be tried on random outputs: {reason}"
            if not torch.equal(torch.get_rng_state(), state):
                return "its objective draws random numbers"
        alone = torch.allclose(whole, parts, rtol=1e-9, atol=1e-12, equal_nan=True)
        return None if alone else "the loss of a sample depends on the others in its batch"


def objective_of(kind: Any, options: Mapping[str, Any]) -> Objective:
    """Return the objective of a kind: antiphon's own, or a user's.

    Raises:
        ScenarioError: It cannot be made.
    """
    found = made("objective", kind, options)
    if isinstance(found, Objective):
        return found
    if not callable(found):
        raise ScenarioError(
            f"{name_of(kind)} made {found!r}, which cannot be called with an output and a target"
        )
    return OwnObjective(found, name_of(kind), key_of(kind, options))
