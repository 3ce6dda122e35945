"""The places where a model can be cut, and the tensors that would cross."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from antiphon.base.errors import ScenarioError
from antiphon.base.notebook import html_table
from antiphon.engine.costs.cost_model import FlopCounter
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.modules import tensors_in
from antiphon.splitting.cut_plan import Place, plan_parts
from antiphon.splitting.example import call_copy, check_model, named_example, step_by_step
from antiphon.splitting.graph import ModelGraph
from antiphon.splitting.outputs import outputs_of, prediction_of
from antiphon.splitting.repeats import caller_random_kept
from antiphon.splitting.tracer import trace

_BYTES = 4

_ABOUT_EQUAL = 1.5
"""The share of the operations that one part of several may have, in equal shares."""


@dataclass(frozen=True)
class Cut:
    """A place before which a model can be cut.

    Attributes:
        name: The submodule's path.
        tensors: The tensors that would cross, by name: the shape of one sample.
        share: The share of the forward's floating-point operations before the cut.
        problem: Why the model cannot be cut there; "": it can.
        calls: How often the forward calls the submodule; a cut is before every call.
    """

    name: str
    kind: str
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    share: float = 0.0
    problem: str = ""
    calls: int = 1

    @property
    def size(self) -> int:
        """Bytes per sample that cross, in float32."""
        return _BYTES * sum(math.prod(shape) for shape in self.tensors.values())


class Cuts(tuple[Cut, ...]):
    """The places where a model can be cut; printed as a table."""

    __slots__ = ()

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        """The table's cells, the headings first."""
        rows: list[tuple[str, ...]] = [("cut before", "module", "crosses", "bytes/sample", "cost before")]
        for cut in self:
            crosses = cut.problem or ", ".join(f"{name} {list(shape)}" for name, shape in cut.tensors.items())
            costs = ("–", "–") if cut.problem else (f"{cut.size:,}", f"{100 * cut.share:.0f} %")
            rows.append((cut.name, cut.kind, crosses, *costs))
        return rows

    def _repr_html_(self) -> str:
        return html_table(self._rows[0], self._rows[1:], names=3)

    def __str__(self) -> str:
        rows = self._rows
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


@in_own_context
@caller_random_kept()
def cuts(model: nn.Module, example: Any, *, output: str | int | None = None, inside: bool = False) -> Cuts:
    """Return the places where a model can be cut, in the order of its forward, with the tensors that would cross.

    Args:
        model: The model; it is not changed.
        example: Its argument, a tuple of its arguments, or a mapping by their names: tensors [batch, …] with a batch of at
            least 2.
        output: The key or index of the prediction, if the model returns several outputs; None: all.
        inside: Whether to list cuts inside the blocks too.

    Raises:
        ScenarioError: The forward cannot be traced, or does not take the example.
    """
    check_model(model)
    traced, _ = _traced(model, named_example(model, example), inside=inside)
    return _places(traced, output)


def _places(traced: ModelGraph, output: str | int | None = None) -> Cuts:
    several = output is None and len(outputs_of(traced)) > 1
    predictions = [*outputs_of(traced).values()] if several else [prediction_of(traced, output)]
    shares = _shares(traced)
    order = {node: i for i, node in enumerate(traced.graph.nodes)}
    entries = sorted((order[node], path) for path, node in traced.entries.items() if path)
    by_position: dict[int, Cut] = {}
    for position, path in entries:
        if position in by_position:
            continue
        cut = _cut_at(traced, path, predictions, shares)
        if cut is not None:
            by_position[position] = cut
    return Cuts(by_position.values())


def _cut_at(
    traced: ModelGraph, path: str, predictions: Sequence[Place], shares: Mapping[fx.Node, float]
) -> Cut | None:
    kind = type(traced.root.get_submodule(path)).__name__
    try:
        plan = plan_parts(traced, [path], predictions)
    except ScenarioError as error:
        return None if "computes nothing" in str(error) else Cut(path, kind, problem=str(error))
    tensors = {message.name: message.shape for part in plan.parts[1:] for message in part.reads}
    share, calls = shares[traced.entries[path]], len(traced.calls[path])
    return Cut(path, kind, tensors, share, calls=calls)


def cut_names(
    model: nn.Module, at: Any, example: Mapping[str, Any], heads: Callable[[list[str]], Sequence[float]]
) -> list[str]:
    """Return the paths of the submodules to cut before.

    Args:
        at: Paths; positions of an `nn.Sequential`; or a number of parts.
        heads: Returns for cuts in order the floating-point operations of the heads on what crosses each, for the example.

    Raises:
        ScenarioError: `at` is none of these.
    """
    return _balanced(model, at, example, heads) if type(at) is int else named_cuts(model, at)


def named_cuts(model: nn.Module, at: Any) -> list[str]:
    """Return the paths of the submodules to cut before that are given as paths, or positions of an `nn.Sequential`.

    Raises:
        ScenarioError: `at` is none of these.
    """
    first = next(iter(dict(model.named_children())), "blocks.1")
    if at is None:
        second = [*dict(model.named_children()), "blocks.1"][1:2]  # before the first nothing is cut off
        fix = f"name submodules to cut before (at={second}; antiphon.cuts lists them), or give a number of parts (at=2)"
        raise ScenarioError(f"at: is missing; {fix}")
    if isinstance(at, str) or not isinstance(at, Sequence):
        raise ScenarioError(f"at is {at!r}; give a list such as ['{first}'], or a number of parts")
    if at and all(isinstance(item, str) and item for item in at):
        return [_first_name(model, item) for item in at]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in at):
        kinds = ", ".join(dict.fromkeys(type(item).__name__ for item in at))
        raise ScenarioError(f"at: a list of {kinds}; give names of submodules, such as '{first}'")
    if not isinstance(model, nn.Sequential):
        if at:
            kind = type(model).__name__
            raise ScenarioError(
                f"at={list(at)}: positions need an nn.Sequential; name submodules of {kind}, such as '{first}'"
            )
        return []
    bounds = [0, *at, len(model)]
    if any(not early < late for early, late in itertools.pairwise(bounds)):
        outside = next((position for position in at if not 0 < position < len(model)), None)
        line = "must be increasing" if outside is None else f"{outside} is not a position between two modules"
        raise ScenarioError(f"at={list(at)}: {line}; give increasing positions from 1 to {len(model) - 1}")
    modules = list(model)
    for position in at:
        if sum(module is modules[position] for module in modules) > 1:
            earliest = next(i for i, module in enumerate(modules) if module is modules[position])
            raise ScenarioError(
                f"at={list(at)}: position {position} is one module with another position (the first is {earliest}), and a "
                "position is of one call; cut at other positions, or give each its own module (copy.deepcopy)"
            )
    return [list(model._modules)[position] for position in at]


def _first_name(model: nn.Module, name: str) -> str:
    """The name under which a model has a submodule first, where it has one under several; a wrong name as it is."""
    target = dict(model.named_modules(remove_duplicate=False)).get(name)
    return next((path for path, module in model.named_modules() if module is target), name)


def containers(names: Iterable[str]) -> set[str]:
    """Return the paths of all modules around some submodules, the model's own ("") among them."""
    around = {""}
    for name in names:
        parts = name.split(".")
        around |= {".".join(parts[:i]) for i in range(1, len(parts))}
    return around


def _balanced(
    model: nn.Module,
    count: int,
    example: Mapping[str, Any],
    heads: Callable[[list[str]], Sequence[float]],
) -> list[str]:
    """Return the cuts that make a number of parts of about equal cost: each computes its own share and the heads on what it sends.

    Raises:
        ScenarioError: There are too few places to cut.
    """
    if count < 1:
        raise ScenarioError(f"at={count}; give at least 1 part, or a list of submodules")
    traced, whole = _traced(model, named_example(model, example), inside=False)
    for path, error in whole.items():
        if (share := _own_share(traced, path)) > _ABOUT_EQUAL / count:
            fix = str(error).rpartition("; ")[2]
            raise ScenarioError(
                f"at={count}: '{path}' alone has {share:.0%} of the operations and cannot be divided; {fix}"
            )
    candidates = [cut for cut in _places(traced) if not cut.problem and cut.calls == 1]
    if len(candidates) < count - 1:
        raise ScenarioError(
            f"at={count}: {type(model).__name__} can be cut at {len(candidates)} places; give at most {len(candidates) + 1}, or "
            "name submodules inside its blocks"
        )
    bounds = [0.0, *(cut.share for cut in candidates), 1.0]
    total = flop_of(model, **example) or 1
    costs = [0.0, *(flop / total for flop in heads([cut.name for cut in candidates])), 0.0]
    last = len(bounds) - 1
    best: dict[tuple[int, int], tuple[float, int, tuple[int, ...]]] = {(0, 0): (0.0, 0, ())}
    for parts in range(1, count + 1):
        for end in range(1, last + 1):
            options = []
            for start in range(end):
                if (parts - 1, start) in best:
                    cost, size, chosen = best[parts - 1, start]
                    crossing = candidates[end - 1].size if end < last else 0
                    part_cost = round(bounds[end] - bounds[start] + costs[end], 3)
                    options.append((max(cost, part_cost), size + crossing, (*chosen, end)))
            if options:
                best[parts, end] = min(options)
    return [candidates[end - 1].name for end in best[count, last][2][:-1]]


def _traced(
    model: nn.Module, example: Mapping[str, Any], *, inside: bool
) -> tuple[ModelGraph, dict[str, ScenarioError]]:
    """Return a trace with the containers of blocks opened, and why those that stay whole cannot be traced, by path."""
    opened, whole = {""}, {}
    around_blocks = _around_blocks(model)
    for path, module in model.named_modules():
        parts = path.split(".")
        if not path or ".".join(parts[:-1]) not in opened:
            continue
        if type(module) is nn.Sequential or isinstance(module, nn.ModuleList | nn.ModuleDict):
            opened.add(path)
        elif path in around_blocks or (inside and any(True for _ in module.children())):
            try:
                trace(model, opened | {path}, example)
            except ScenarioError as error:
                whole[path] = error
                continue
            opened.add(path)
    return trace(model, opened, example), whole


def _own_share(traced: ModelGraph, path: str) -> float:
    """The share of the forward's operations in a submodule that is called whole; 0 if it is not called."""
    shares = _shares(traced)
    calls = [node for node in traced.graph.nodes if node.op == "call_module" and node.target == path]
    return sum(shares[node.next] - shares[node] for node in calls)


def _around_blocks(model: nn.Module) -> set[str]:
    """The paths of the outermost lists of blocks, of modules that have submodules themselves, and of what holds them."""
    lists: list[str] = []
    for path, module in model.named_modules():
        blocks = isinstance(module, nn.ModuleList | nn.Sequential) and any(
            True for block in module.children() for _ in block.children()
        )
        if blocks and not any(path.startswith(f"{outer}.") for outer in lists if outer):
            lists.append(path)
    return {*containers(lists), *lists}  # a list may have a forward of its own


def flop_of(module: nn.Module, *args: Any, **kwargs: Any) -> int:
    """Return the floating-point operations of a forward, which is called on a copy.

    Attention, and layers of transformers, are computed step by step: of the one operation that is faster none are counted.
    """
    with step_by_step(), sdpa_kernel(SDPBackend.MATH), FlopCounter() as counter:  # type: ignore[no-untyped-call]
        call_copy(module, *args, **kwargs)
    return int(counter.flop)


class _Call(nn.Module):
    """A call of a function or method, as a module."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__()
        self.target = node.target

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        function: Any = self.target
        if isinstance(function, str):
            function = getattr(args[0], function)
            args = args[1:]
        return function(*args, **kwargs)


def _shares(traced: ModelGraph) -> dict[fx.Node, float]:
    """The share of the forward's operations that is before each node."""
    total, before = 0, {}
    for node in traced.graph.nodes:
        before[node] = total
        if node.op == "output":
            continue
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: traced.facts[n].value)
        if node.op == "call_module":
            called = traced.root.get_submodule(str(node.target))
        elif node.op.startswith("call") and tensors_in((args, kwargs)):
            called = _Call(node)
        else:
            continue
        # One that reads what others leave fails alone, with anything that a user's module may raise.
        with suppress(Exception):
            total += flop_of(called, *args, **kwargs)
    return {node: cost / max(total, 1) for node, cost in before.items()}
