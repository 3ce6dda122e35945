"""Training and evaluation mode in one graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from antiphon.engine.split.graph import Fact, Mode
from antiphon.errors import ScenarioError

__all__ = ["merge_modes"]


def merge_modes(
    train: fx.Graph, facts: dict[fx.Node, Fact], evaluation: fx.Graph, root: nn.Module, name: str
) -> None:
    """Make values that differ between the modes depend on the mode; ScenarioError where the calls themselves differ."""
    ours, theirs = list(train.nodes), list(evaluation.nodes)
    same = dict(zip(theirs, ours, strict=False))
    count = 0

    def chosen(node: fx.Node, mine: Any, other: Any) -> Any:
        nonlocal count
        if isinstance(mine, tuple | list) and isinstance(other, type(mine)) and len(mine) == len(other):
            return type(mine)(chosen(node, a, b) for a, b in zip(mine, other, strict=True))
        if isinstance(mine, dict) and isinstance(other, dict) and mine.keys() == other.keys():
            return {key: chosen(node, value, other[key]) for key, value in mine.items()}
        if isinstance(mine, fx.Node) and isinstance(other, fx.Node) and same.get(other) is mine:
            return mine
        if type(mine) is type(other) and not isinstance(mine, fx.Node) and repr(mine) == repr(other):
            return mine
        if isinstance(mine, fx.Node) or isinstance(other, fx.Node):
            raise _differs(node, name)
        path, count = f"mode{count}", count + 1
        root.add_module(path, Mode(mine, other).train(root.training))
        with train.inserting_before(node):
            made = train.call_module(path)
        facts[made] = Fact(mine, frozenset(), frozenset(), "")
        return made

    for mine, other in zip(ours, theirs, strict=False):
        if (mine.op, mine.target) != (other.op, other.target) and not _same_constant(root, mine, other):
            raise _differs(mine, name)
        args = chosen(mine, mine.args, other.args)
        mine.args, mine.kwargs = args, chosen(mine, dict(mine.kwargs), dict(other.kwargs))
    if len(ours) != len(theirs):
        raise _differs(ours[-1], name)


def _same_constant(root: nn.Module, mine: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes are one tensor, which forward makes anew at every call by other means than torch's factories."""
    names = [str(node.target) for node in (mine, other)]
    if not all(name.startswith("_tensor_constant") for name in names):
        return False
    return torch.equal(*(getattr(root, name) for name in names))


def _differs(node: fx.Node, name: str) -> ScenarioError:
    return ScenarioError(
        f"{name}.forward makes other calls in training than in evaluation (at '{node}'); put what depends on "
        "`self.training` into a submodule of its own"
    )
