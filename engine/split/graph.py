"""The graph of a model's forward: its nodes with what is known of them, and their evaluation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from antiphon.errors import ScenarioError, first_line

__all__ = [
    "SIZES",
    "Fact",
    "Mode",
    "Trace",
    "copied",
    "evaluate",
    "own_copies",
    "restored",
    "storages",
    "tensors_in",
]


SIZES = "take the batch size from x.shape[0] as it is, without len(x), int(…) or a loop over it"
"""How to write a forward that is traced for any batch."""


@dataclass
class Fact:
    """What is known of a node of a trace."""

    value: Any
    """Its value for the example."""
    depends: frozenset[str]
    """What its numbers depend on, of `NUMBERS`; sizes and constants depend on nothing."""
    writes: frozenset[int]
    """The storages that it changes in place."""
    where: str
    """File and line of the user's code."""
    ragged: bool = False
    """Whether its sizes depend on the numbers of data, as those of selected rows do."""
    typed: frozenset[fx.Node] = frozenset()
    """Inputs of which it reads the sizes and the type alone, as `zeros_like` and rotary tables do."""


@dataclass
class Trace:
    """The graph of a model's forward.

    Attributes:
        graph: Its calls of submodules, functions and methods, in order.
        root: A copy of the model, which the graph was made of.
        facts: Of every node but the output, in training mode.
        entries: By path of a submodule that was called: the first node of its first call.
        calls: By path of a submodule that was called: the nodes of each call, in order.
        other: By node: its value for the example of another batch size, in evaluation mode.
        batches: The two batch sizes.
    """

    graph: fx.Graph
    root: nn.Module
    facts: dict[fx.Node, Fact]
    entries: dict[str, fx.Node]
    calls: dict[str, tuple[frozenset[fx.Node], ...]]
    other: dict[fx.Node, Any]
    batches: tuple[int, int]


class Mode(nn.Module):
    """One of two plain values: that of training, or that of evaluation."""

    def __init__(self, train: Any, evaluation: Any) -> None:
        super().__init__()
        self.train_value, self.evaluation_value = train, evaluation

    def forward(self) -> Any:
        """Return the value of the present mode."""
        return self.train_value if self.training else self.evaluation_value


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def storages(value: object) -> frozenset[int]:
    """Return the storages of the tensors in a value."""
    return frozenset(t.untyped_storage().data_ptr() for t in tensors_in(value) if t.numel())


def evaluate(graph: fx.Graph, root: nn.Module, example: Mapping[str, Any]) -> dict[fx.Node, Any]:
    """Return the value of every node of a graph for other arguments, without gradients.

    Raises:
        ScenarioError: A node fails: something was frozen in.
    """
    interpreter = fx.Interpreter(root, garbage_collect_values=False, graph=graph)
    torch.manual_seed(1)
    try:
        with torch.no_grad():
            interpreter.run(*own_copies(example).values())
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        node = next(node for node in graph.nodes if node not in interpreter.env)
        raise ScenarioError(f"'{node}' fails for another batch size ({first_line(error)}); {SIZES}") from None
    return interpreter.env


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model; ScenarioError where it has none."""
    try:
        return copy.deepcopy(model)
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise ScenarioError(
            f"{type(model).__name__} cannot be copied ({first_line(error)}); keep such attributes out of the model"
        ) from None


@contextmanager
def restored(root: nn.Module) -> Iterator[None]:
    """Give a model its attributes and the numbers of its buffers back, whatever its forward does to them."""
    held = [(module, dict(vars(module)), dict(module._buffers)) for module in root.modules()]
    numbers = [(buffer, buffer.clone()) for buffer in root.buffers()]
    try:
        yield
    finally:
        for module, attributes, buffers in held:
            mode = module.training
            for name in [name for name, value in vars(module).items() if isinstance(value, fx.Proxy)]:
                del vars(module)[name]
            vars(module).update(attributes)
            module._buffers.update(buffers)
            module.training = mode
        for buffer, value in numbers:
            buffer.data.copy_(value)


def own_copies(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example that may be written to."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in example.items()}
