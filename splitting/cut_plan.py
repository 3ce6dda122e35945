"""The plan of a cut: which part computes each node of a trace, what crosses, and what is computed anew at its reader."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from antiphon.base.errors import ScenarioError, with_article
from antiphon.base.nearest_names import suggest
from antiphon.nets.modules import tensors_in
from antiphon.splitting.calls import Start, starts_of
from antiphon.splitting.graph import ModelGraph, storages

Where = tuple[Any, ...]
"""The place of a tensor in a value of nested tuples, lists and dicts: indices and keys."""
Place = tuple[fx.Node, Where]
"""A tensor of a trace: a node, and the place in its value."""


@dataclass(frozen=True)
class CrossingTensor:
    """A tensor that crosses a cut.

    Attributes:
        node: The node whose value it is, or is in.
        path: Its place in that value; (): the value itself.
        shape: Of one sample.
        name: For ports and tables.
    """

    node: fx.Node
    path: Where
    shape: tuple[int, ...]
    sender: int
    name: str


@dataclass
class PartPlan:
    """What one part computes, reads and sends.

    Attributes:
        nodes: What it computes, in order.
        reads: The messages that it reads, in the order of their computation.
    """

    nodes: list[fx.Node] = field(default_factory=list)
    observes: list[str] = field(default_factory=list)
    reads: list[CrossingTensor] = field(default_factory=list)
    predictions: list[int] = field(default_factory=list)


@dataclass
class CutPlan:
    """A cut model: its parts, the submodule before which each but the first begins, and the predictions."""

    parts: list[PartPlan]
    names: list[str]
    predictions: Sequence[Place]


def at_path(value: Any, path: Where) -> Any:
    """Return what is at a place in nested tuples, lists and dicts."""
    for key in path:
        value = value[key]
    return value


class _Planner:
    """Assigns the nodes of a trace to parts, which begin at `starts`, in order."""

    def __init__(self, trace: ModelGraph, starts: Sequence[Start], predictions: Sequence[Place]) -> None:
        self.trace, self.predictions = trace, predictions
        self.names = [start.name for start in starts]
        self.order = {node: i for i, node in enumerate(trace.graph.nodes)}
        self.held = {node: storages(fact.value) for node, fact in trace.facts.items()}
        self.writers = [node for node in self.order if node in trace.facts and trace.facts[node].writes]
        self.kept = frozenset[int]().union(*(self.held[node] for node in self.held if node.op == "get_attr"))
        self.needed = self._needed({node for node, _ in predictions})
        self.count = len(starts) + 1
        self.part = dict.fromkeys(self.order, self.count - 1)
        for number, start in reversed([*enumerate(starts)]):
            early = self.order[start.node]
            self.part |= {n: number for n, i in self.order.items() if i < early or n in start.before}
        for node in self.order:
            if (
                holder := _holder(trace, node)
            ) is not None:  # so that what is not read of it stays where it is
                self.part[node] = self.part[holder]
        self.pinned: set[fx.Node] = set()
        self.messages: dict[tuple[fx.Node, Where], CrossingTensor] = {}

    def plan(self) -> CutPlan:
        """Return the plan; ScenarioError where something cannot cross."""
        for number in range(self.count):
            if not any(self._owned(node, number) for node in self.needed):
                self._pin(number)
        parts = [self._gather(number) for number in range(self.count)]
        self._check_writes(parts)
        return CutPlan(parts, self.names, self.predictions)

    def _needed(self, outputs: set[fx.Node]) -> set[fx.Node]:
        """The nodes that the predictions depend on, also by way of what is written in place; and writes to buffers."""
        needed = {*outputs, *(node for node in self.writers if self.trace.facts[node].writes & self.kept)}
        written = set[int]().union(*(self.held[node] for node in needed))
        for node in reversed(self.order):
            if node.op == "output":
                continue
            fact = self.trace.facts[node]
            if node in needed or fact.writes & written:
                needed.add(node)
                needed.update(node.all_input_nodes)
                for touched in (node, *node.all_input_nodes):
                    written |= self.held[touched]
        return needed

    def _free(self, node: fx.Node) -> bool:
        """Whether a node can be computed anew wherever it is needed: of sizes, constants, buffers and inputs alone."""
        if node.op in ("placeholder", "get_attr"):
            return True
        fact = self.trace.facts[node]
        return (
            node not in self.pinned
            and not fact.depends & {"parameter", "random", "state"}
            and not fact.writes & self.kept
        )

    def _owned(self, node: fx.Node, number: int) -> bool:
        return self.part[node] == number and not self._free(node)

    def _pin(self, number: int) -> None:
        """Send what a part computes of its inputs alone, where it computes nothing else."""
        for node in self.needed:
            value = self.trace.facts[node].value
            if (
                self.part[node] != number
                or node.op in ("placeholder", "get_attr")
                or not isinstance(value, Tensor)
            ):
                continue
            late = any(self.part[user] > number for user in node.users if user in self.needed)
            if value.is_floating_point() and late:
                self.pinned.add(node)
        if not any(self._owned(node, number) for node in self.needed):
            ends = [f"from '{name}' on" for name in self.names[max(number - 1, 0) : number]]
            ends += [f"before '{name}'" for name in self.names[number : number + 1]]
            raise ScenarioError(
                f"part {number} ({', '.join(ends)}) computes nothing that the prediction needs; leave out a cut or move it"
            )

    def _gather(self, number: int) -> PartPlan:
        plan = self._gathered(number, typed=True)
        if not (plan.observes or plan.reads):
            plan = self._gathered(number, typed=False)
        if not (plan.observes or plan.reads):
            # Of parameters alone, such as queries: an argument gives their number.
            plan.observes = [str(node.target) for node in self.order if node.op == "placeholder"][:1]
        return plan

    def _gathered(self, number: int, *, typed: bool) -> PartPlan:
        """What a part computes and reads; `typed`: whether zeros stand for what is read for its size and type alone."""
        plan = PartPlan()
        included: set[fx.Node] = set()
        observed: set[fx.Node] = set()
        reads: set[CrossingTensor] = set()
        waiting = [node for node in self.order if node in self.needed and self._owned(node, number)]
        for i, (node, _) in enumerate(self.predictions):
            alone = len(self.predictions) == 1 or self._free(node)
            if number == (self.count - 1 if alone else self.part[node]):
                plan.predictions.append(i)
                waiting.append(node)
        while waiting:
            node = waiting.pop()
            if node in included or node in observed:
                continue
            if node.op == "placeholder":
                observed.add(node)
            elif self._constant(node):
                continue
            elif self._free(node) or self._owned(node, number):
                included.add(node)
                without = typed_inputs(self.trace, node) if typed else ()
                waiting.extend(n for n in node.all_input_nodes if n not in without)
                waiting.extend(self._writers(node, number))
            else:
                reads.update(self._messages(node, number))
        plan.nodes = [node for node in self.order if node in included]
        plan.observes = [str(node.target) for node in self.order if node in observed]
        plan.reads = sorted(reads, key=lambda message: (self.order[message.node], str(message.path)))
        return plan

    def _constant(self, node: fx.Node) -> bool:
        """Whether a node is a size or a constant that every part knows, or an exact multiple of the batch size."""
        fact = self.trace.facts[node]
        if fact.depends or fact.writes or tensors_in(fact.value) or node.op == "call_module":
            return False
        return plain_size(self.trace, node) is not NotImplemented

    def _writers(self, node: fx.Node, number: int) -> Iterator[fx.Node]:
        """The nodes that write in place to what a node's value is, and can be computed anew with it."""
        for writer in self.writers:
            late = writer not in self.needed or self.part[writer] > number
            if not late and self._free(writer) and self.trace.facts[writer].writes & self.held[node]:
                yield writer

    def _messages(self, node: fx.Node, number: int) -> Iterator[CrossingTensor]:
        assert self.part[node] < number
        container = self.trace.facts[node].value
        if isinstance(container, dict) and type(container) is not dict:  # its reader has a plain one
            for user in node.users:
                by_key = user.target is operator.getitem and user.args[1] in list(container)
                if user in self.needed and self.part[user] == number and not by_key:
                    reason = f"is {with_article(type(container).__name__)}, of which '{user}' ({self.trace.facts[user].where}) reads no item"
                    raise self._refused(node, number, reason)
        for path, value in leaves(self.trace.facts[node].value):
            if value is None or not isinstance(value, Tensor):
                if value is not None and self.trace.facts[node].depends:
                    raise self._refused(
                        node, number, f"is {with_article(type(value).__name__)} that depends on the data"
                    )
                continue
            key = node, path
            if key not in self.messages:
                self.messages[key] = self._message(node, path, value, number)
            yield self.messages[key]

    def _message(self, node: fx.Node, path: Where, value: Tensor, number: int) -> CrossingTensor:
        shape = list(value.shape)
        if not value.is_floating_point():
            raise self._refused(node, number, f"is of {value.dtype}, which has no gradient")
        smaller = at_path(self.trace.smaller[node], path)
        batch, fewer = self.trace.batches
        if not shape or shape[0] != batch or len(smaller) != fewer or smaller.shape[1:] != value.shape[1:]:
            sizes = list(zip(value.shape, smaller.shape, strict=False))
            position = (
                f"but as axis {sizes.index(self.trace.batches)}"
                if self.trace.batches in sizes
                else f"of {batch}"
            )
            raise self._refused(node, number, f"{shape} has no batch as its first axis, {position}")
        name = "_".join(str(key) for key in (node.name, *path))
        return CrossingTensor(node, path, tuple(shape[1:]), self.part[node], name)

    def _refused(self, node: fx.Node, number: int, why: str) -> ScenarioError:
        where = self.trace.facts[node].where
        return ScenarioError(
            f"'{node}' ({where}) crosses from part {self.part[node]} to part {number} and {why}; only float "
            "tensors [batch, …] cross: move the cut"
        )

    def _check_writes(self, parts: list[PartPlan]) -> None:
        """Refuse writes in place that another part would have to see; each part reads copies."""
        for number, part in enumerate(parts):
            inputs = self._inputs(part)
            for node in [n for n in part.nodes if self.trace.facts[n].writes]:
                writes = self.trace.facts[node].writes
                for source in [n for n in part.nodes if n.op == "get_attr" and self.held[n] & writes]:
                    if any(source in reader.nodes for reader in parts if reader is not part):
                        raise self._write_refused(node, source, "another part reads too")
                for source in [n for n in inputs if self.held[n] & writes]:
                    if any(self.held[n] & self.held[source] for n in inputs if n is not source):
                        raise self._write_refused(node, source, f"reaches part {number} twice")
                    later = [n for reader in parts[number + 1 :] for n in self._inputs(reader, number)]
                    if not self._free(node) and any(self.held[n] & self.held[source] for n in later):
                        raise self._write_refused(node, source, "a later part reads again")

    def _inputs(self, part: PartPlan, before: int | None = None) -> list[fx.Node]:
        """What a part reads: arguments of the model, and messages (with `before` of the parts before that one)."""
        arguments = [n for n in self.order if n.op == "placeholder" and str(n.target) in part.observes]
        return arguments + [m.node for m in part.reads if before is None or m.sender < before]

    def _write_refused(self, node: fx.Node, source: fx.Node, why: str) -> ScenarioError:
        return ScenarioError(
            f"'{node}' ({self.trace.facts[node].where}) writes in place to '{source}', which {why}; write to a copy "
            "(inplace=False, x = x + y), or move the cut"
        )


def _holder(trace: ModelGraph, node: fx.Node) -> fx.Node | None:
    """The tuple, dict or dataclass of which a node reads an item, if nothing is put into it; None: it reads none."""
    if node.target not in (operator.getitem, getattr) or len(node.all_input_nodes) != 1:
        return None
    holder = node.all_input_nodes[0]
    changed = any(user.target is operator.setitem or user.op == "call_method" for user in holder.users)
    return None if changed or isinstance(trace.facts[holder].value, Tensor) else holder


def leaves(value: object, path: Where = ()) -> Iterator[tuple[Where, object]]:
    """Yield what is in nested tuples, lists and dicts, each with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    else:
        yield path, value


def plain_size(trace: ModelGraph, node: fx.Node) -> Any:
    """Return a size or constant as what it is of any batch: a plain value, multiples of the batch size as `BatchMultiple`.

    Returns:
        `NotImplemented` where it is neither.
    """
    return _plain(trace.facts[node].value, trace.smaller[node], trace.batches)


def typed_inputs(trace: ModelGraph, node: fx.Node) -> set[fx.Node]:
    """Return the inputs of a node of which it reads the size and type alone, and whose sizes are plain (`plain_shape`)."""
    return {n for n in trace.facts[node].typed if plain_shape(trace, n) is not NotImplemented}


def plain_shape(trace: ModelGraph, node: fx.Node) -> Any:
    """Return the shape of a tensor of any batch, multiples of the batch size as `BatchMultiple`; `NotImplemented` where it is none."""
    value, smaller = trace.facts[node].value, trace.smaller[node]
    if not isinstance(value, Tensor) or not isinstance(smaller, Tensor):
        return NotImplemented
    return _plain(tuple(value.shape), tuple(smaller.shape), trace.batches)


@dataclass(frozen=True)
class BatchMultiple:
    """A number that is so many times the batch size."""

    times: int


def _plain(have: Any, smaller: Any, batches: tuple[int, int]) -> Any:
    if isinstance(have, tuple | list) and type(have) is type(smaller) and len(have) == len(smaller):
        items = [_plain(a, b, batches) for a, b in zip(have, smaller, strict=True)]
        return NotImplemented if NotImplemented in items else tuple(items)
    if isinstance(have, torch.dtype | torch.device):
        return have
    if type(have) not in (int, float, bool, str, type(None)) or type(have) is not type(smaller):
        return NotImplemented
    if have == smaller:
        return have
    if type(have) is int and have * batches[1] == smaller * batches[0] and have % batches[0] == 0:
        return BatchMultiple(have // batches[0])
    return NotImplemented


def no_submodule(name: str, modules: Iterable[str]) -> ScenarioError:
    """Return the error of a path in `at` that is none of a model's submodules."""
    return ScenarioError(f"at: no submodule '{name}'{suggest(name, filter(None, modules))}")


def plan_parts(trace: ModelGraph, at: Sequence[str], predictions: Sequence[Place]) -> CutPlan:
    """Plan the parts of a model that is cut before some of its submodules.

    Args:
        trace: Of the model, with the forwards of all containers of `at` opened.
        predictions: The outputs that are kept; of several each is of the part that computes it.

    Raises:
        ScenarioError: A cut is no call of the forward, a part would be empty, or something cannot cross.
    """
    order = {node: i for i, node in enumerate(trace.graph.nodes)}
    for name in at:
        if name not in trace.entries:
            modules = dict(trace.root.named_modules())
            called = [path for path in trace.entries if path]
            if name in modules:
                inside = next((path for path in called if path.startswith(f"{name}.")), None)
                fix = f"; cut before '{inside}'" if inside else f"; cut before one of {', '.join(called[:6])}"
                raise ScenarioError(
                    f"at: '{name}' is {with_article(type(modules[name]).__name__)} that forward does not call{fix}"
                )
            raise no_submodule(name, modules)
    starts = [start for name in dict.fromkeys(at) for start in starts_of(trace, name)]
    starts.sort(key=lambda start: (order[start.node], start.name))
    for first, second in itertools.pairwise(starts):
        if first.node is second.node:
            raise ScenarioError(
                f"at: nothing is computed between '{first.name}' and '{second.name}'; leave one out"
            )
    return _Planner(trace, starts, predictions).plan()
