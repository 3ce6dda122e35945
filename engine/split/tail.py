"""The tail of a model: what it computes from one of its submodules on, as a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from antiphon.engine.split.cuts import containers
from antiphon.engine.split.example import named_example
from antiphon.engine.split.graph import copied
from antiphon.engine.split.outputs import prediction_of
from antiphon.engine.split.parts import build_unflattened
from antiphon.engine.split.plan import plan_parts
from antiphon.engine.split.tracer import trace
from antiphon.errors import ScenarioError

__all__ = ["Tail", "tail"]


@dataclass(frozen=True)
class Tail:
    """What a model computes from a submodule on.

    Attributes:
        module: What the submodule reads, [B, *shape], to the prediction, [B, …], with copies of the model's parameters.
        shape: Of one sample of what it reads.
        parameters: The names of its parameters, which are those that they have in the model.
    """

    module: fx.GraphModule
    shape: tuple[int, ...]
    parameters: tuple[str, ...]


def tail(model: nn.Module, name: str, example: Any, *, output: str | int | None = None) -> Tail:
    """Return what a model computes from the input of one of its submodules to its prediction, as a module of its own.

    Args:
        model: It is not changed.
        name: The submodule's path.
        example: As of `antiphon.cuts`.
        output: Of several outputs, the key or index of the prediction; None: `logits`, or the only one.

    Raises:
        ScenarioError: The forward cannot be traced, or more than one tensor leads to what comes after.
    """
    traced = trace(model, containers([name]), named_example(model, example))
    plan = plan_parts(traced, [name], prediction_of(traced, output, None))
    part = plan.parts[1]
    if len(part.reads) != 1 or part.observes:
        found = ", ".join([*(message.name for message in part.reads), *part.observes])
        raise ScenarioError(
            f"tail: what '{name}' leads to reads {found}; choose a place that only one tensor crosses (antiphon.cuts)"
        )
    module = build_unflattened(traced, plan, copied(model), 1)
    return Tail(module, part.reads[0].shape, tuple(key for key, _ in module.named_parameters()))
