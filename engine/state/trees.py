"""Objects of a run as trees of plain data and tensors, and trees of stacks as those of their members.

A saved state has every field of what is kept that does not say `NOT_SAVED` (heart/ends.py), by its name. What is not plain says
what it is: `{"mask": …}`, `{"set": […]}`, `{"range": […]}`, and `{"signals": number}`, as a state has step signals once. What
refers to something else is read by state_dict.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.ends import NOT_SAVED, Received, Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.window import Constant, CountedRead, WithGraph
from antiphon.nets.mask import Mask

Tree = dict[str, Any]
Owner = TypeVar("Owner")
Number = Callable[[StepSignals], int]

READS: dict[str, type[CountedRead | WithGraph | Constant]] = {
    "leaf": CountedRead,  # as saved states have named it
    "with_graph": WithGraph,
    "constant": Constant,
}
"""What a tick reads, by the `kind` that its tree has."""
_KINDS = {kind: name for name, kind in READS.items()}


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return a tree of dicts, lists and tuples, these as lists, with `function` of each leaf, called in the tree's order."""
    if isinstance(tree, dict):
        return {key: mapped(item, function) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [mapped(item, function) for item in tree]
    return function(tree)


def saved_fields(kind: type) -> list[str]:
    """Return the names of the fields that a saved state has of an object."""
    return [f.name for f in fields(kind) if f.init and not f.name.startswith("_") and f.metadata != NOT_SAVED]


def to_tree(owner: Any, number: Number) -> Tree:
    """Return the saved fields of an object by name; `number`: of step signals."""
    return {name: plain(getattr(owner, name), number) for name in saved_fields(type(owner))}


def plain(value: Any, number: Number) -> Any:
    """Return a value of a field as a tree."""
    if isinstance(value, list | tuple):
        return [plain(item, number) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, number) for key, item in value.items()}
    if isinstance(value, StepSignals):
        return {"signals": number(value)}
    if isinstance(value, Sent | Received):  # the ends of its channel have it
        return value.stamp
    if isinstance(value, CountedRead | WithGraph | Constant):
        return {"kind": _KINDS[type(value)], **to_tree(value, number)}
    if isinstance(value, Mask):
        return {"mask": value.plain}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if is_dataclass(value):
        return to_tree(value, number)
    return {"set": sorted(value)} if isinstance(value, AbstractSet) else value


def from_tree(
    kind: type[Owner], tree: Mapping[str, Any], signals: Sequence[StepSignals], **further: Any
) -> Owner:
    """Return an object of saved fields and others, which are given as they are; `signals`: by number."""
    names = [name for name in saved_fields(kind) if name not in further]
    return kind(**{name: value_of(tree[name], signals) for name in names}, **further)


def value_of(tree: Any, signals: Sequence[StepSignals]) -> Any:
    """Return the value of a field, of its tree."""
    if isinstance(tree, list):
        return [value_of(item, signals) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((key, content),) = tree.items()
        if key == "mask":
            return Mask.of(content)
        if key == "signals":
            return signals[content]
        if key == "set":
            return set(content)
        if key == "range":
            return range(*content)
    return {key: value_of(item, signals) for key, item in tree.items()}


def renumbered(tree: Any, numbers: Sequence[int]) -> Any:
    """Return a tree with other numbers of its step signals."""
    if isinstance(tree, list):
        return [renumbered(item, numbers) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"signals"} and isinstance(tree["signals"], int):
        return {"signals": numbers[tree["signals"]]}
    return {key: renumbered(item, numbers) for key, item in tree.items()}


def join(
    trees: Sequence[Any], batch: int, device: torch.device, number: Callable[[Sequence[int]], int]
) -> Any:
    """Return the trees of all members, in order, as one of their stack; what has no rows is the first one's.

    `number`: of the step signals of all members, by theirs.
    """
    first = trees[0]
    if isinstance(first, dict):
        if first.keys() == {"mask"}:
            return {"mask": join_rows([tree["mask"] for tree in trees], batch, device)}
        if first.keys() == {"signals"} and isinstance(first["signals"], int):
            return {"signals": number([tree["signals"] for tree in trees])}
        if first.keys() == {"set"}:
            return first
        return {key: join([tree[key] for tree in trees], batch, device, number) for key in first}
    if isinstance(first, list):
        return [join(items, batch, device, number) for items in zip(*trees, strict=True)]
    return join_rows(trees, batch, device) if any(isinstance(tree, Tensor) for tree in trees) else first


def split_rows(value: Any, count: int, batch: int, first: int = 0) -> Sequence[Any]:
    """Return a tree or value of a stack for each of `count` members from `first` on: tensors [N * batch, …] by rows, also in lists and
    dicts, others as they are.

    Nothing is copied: a member's tensors are views.
    """
    if isinstance(value, Tensor):
        rows = constant(value)
        if len(rows) > count * batch:
            rows = rows[first * batch : (first + count) * batch]
        return torch.split(rows, batch)
    if isinstance(value, list):
        items = [split_rows(item, count, batch, first) for item in value]
        return [[item[k] for item in items] for k in range(count)]
    if isinstance(value, dict):
        by_key = {key: split_rows(item, count, batch, first) for key, item in value.items()}
        return [{key: items[k] for key, items in by_key.items()} for k in range(count)]
    return (value,) * count


def join_rows(values: Sequence[Any], batch: int, device: torch.device) -> Any:
    """Return values of all members, in order, as one of their stack.

    Where one has a tensor, None stands for zeros and a bool for a mask of its rows.
    """
    if not any(isinstance(value, Tensor) for value in values) and len(set(values)) == 1:
        return values[0]
    mask = torch.zeros(batch, dtype=torch.bool, device=device)
    like = next((value for value in values if isinstance(value, Tensor)), mask)
    return torch.cat(
        [constant(v) if isinstance(v, Tensor) else torch.full_like(like, bool(v)) for v in values]
    )


def joined(seeds: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Signals of several seeds by name, [B, …] each, as those of all, [seeds * B, …]; `names`: of which, None: of all.

    Where some have a signal, it is zeros for the others; a mask that is absent holds everywhere.
    """
    joined_signals = {}
    for name in dict.fromkeys(name for signals in seeds for name in signals) if names is None else names:
        like = next((signals[name] for signals in seeds if name in signals), None)
        if like is not None:
            default = torch.ones_like(like) if name.startswith("_") else torch.zeros_like(like)
            joined_signals[name] = torch.cat([signals.get(name, default) for signals in seeds])
    return joined_signals


def joined_signals(seeds: Sequence[StepSignals]) -> StepSignals:
    return StepSignals(seeds[0].step, joined([shared.signals for shared in seeds]))
