"""The plan of a cut: which part computes each node of a trace, what crosses, and what each part computes anew."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, fx, nn

from antiphon.base.errors import ScenarioError, suggest
from antiphon.splitting.trace import Trace, storages


@dataclass
class PartPlan:
    """What one part computes, observes of the model's arguments, reads of earlier parts and sends, each in the order of the forward."""

    nodes: list[fx.Node]
    observes: list[fx.Node]
    reads: list[fx.Node]
    sends: list[fx.Node] = field(default_factory=list)
    predictions: list[fx.Node] = field(default_factory=list)


def starts_of(trace: Trace, at: Sequence[str]) -> dict[str, fx.Node]:
    """Return the first node of each part but the first, by the submodule that the model is cut before, in the order of the forward."""
    for name in at:
        if name not in trace.first:
            called = [path for path in trace.first if path]
            inside = next((path for path in called if path.startswith(f"{name}.")), None)
            fix = f"; cut before '{inside}'" if inside else suggest(name, called)
            raise ScenarioError(f"at: forward calls no submodule '{name}'{fix}")
    starts = {name: trace.first[name] for name in sorted(at, key=trace.first.__getitem__)}
    for first, second in itertools.pairwise(starts):
        if starts[first] is starts[second]:
            raise ScenarioError(f"at: nothing is computed between '{first}' and '{second}'; leave one out")
    return starts


def plan_parts(trace: Trace, starts: Mapping[str, fx.Node], predictions: Sequence[fx.Node]) -> list[PartPlan]:
    """Plan the parts of a model, each but the first with its first node in `starts`; a prediction is of the part that computes it."""
    part = _parts_of(trace, [*starts.values()])
    anew = _computed_anew(trace)
    held = {node: storages(value) for node, value in trace.values.items()}
    state = set().union(*(held[node] for node in trace.graph.nodes if node.op == "get_attr"))
    wanted = [
        {node for node, written in trace.writes.items() if part[node] == number and written & state}
        for number in range(len(starts) + 1)
    ]
    for node in predictions:
        wanted[part[node]].add(node)
    plans: list[PartPlan] = []
    for number in reversed(range(len(wanted))):
        waiting, inside, reads = [*wanted[number]], set[fx.Node](), set[fx.Node]()
        while waiting:
            node = waiting.pop()
            if node in inside or node in reads:
                continue
            for writer, written in trace.writes.items():
                mine = part[writer] == number or (writer in anew and part[writer] < number)
                waiting += [writer] if mine and written & held[node] else []
            if node in anew or node.op == "get_attr" or part[node] == number:
                inside.add(node)
                waiting += node.all_input_nodes
            else:
                reads.add(node)
                wanted[part[node]].add(node)
        nodes = sorted(inside)
        observes = [node for node in nodes if node.op == "placeholder"]
        if not (observes or reads):  # of parameters alone, such as queries: an argument gives their number
            observes = [next(iter(trace.graph.nodes))]
        computed = [node for node in nodes if node.op != "placeholder"]
        plans.insert(0, PartPlan(computed, observes, sorted(reads)))
    for number, plan in enumerate(plans):
        later = {node for reader in plans[number + 1 :] for node in reader.reads if part[node] == number}
        plan.sends = sorted(later)
        plan.predictions = [node for node in predictions if part[node] == number]
        _check_sends(trace, number, plan, [*starts])
    return plans


def _parts_of(trace: Trace, starts: Sequence[fx.Node]) -> dict[fx.Node, int]:
    """The part of each node; an item of a tuple or dict is of the part that makes it, a submodule called again of its first part."""
    part: dict[fx.Node, int] = {}
    first: dict[object, int] = {}
    for node in trace.graph.nodes:
        part[node] = sum(start <= node for start in starts)
        if node.op == "call_module":
            home = first.setdefault(node.target, part[node])
            if all(part[source] <= home or source.op == "placeholder" for source in node.all_input_nodes):
                part[node] = home
        holder = node.args[0] if node.target in (operator.getitem, getattr) else None
        if isinstance(holder, fx.Node) and not isinstance(trace.values[holder], Tensor):
            part[node] = part[holder]
    return part


def _computed_anew(trace: Trace) -> set[fx.Node]:
    """The nodes that depend on arguments and constants alone, which each part that reads them computes."""
    anew: set[fx.Node] = set()
    for node in trace.graph.nodes:
        learned = node.op == "get_attr" and isinstance(trace.values[node], nn.Parameter)
        if node.op == "call_module":
            learned = any(True for _ in trace.root.get_submodule(str(node.target)).state_dict())
        inputs = all(source in anew for source in node.all_input_nodes)
        if inputs and not learned and node not in trace.random and node.op != "output":
            anew.add(node)
    return anew


def _check_sends(trace: Trace, number: int, plan: PartPlan, names: Sequence[str]) -> None:
    if not plan.sends and not plan.predictions:
        ends = [f"from '{name}' on" for name in names[max(number - 1, 0) : number]]
        ends += [f"before '{name}'" for name in names[number : number + 1]]
        raise ScenarioError(
            f"part {number} ({', '.join(ends)}) computes nothing that the prediction needs; leave out a cut or move it"
        )
    for node in plan.sends:
        value = trace.values[node]
        if isinstance(value, Tensor) and value.is_floating_point() and value.shape[:1] == (trace.rows,):
            continue
        kind = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ScenarioError(
            f"'{node}' ({node.meta['line']}) crosses from part {number} to a later one and is {kind}; only float "
            f"tensors [batch, …] cross: compute it from the model's arguments alone, which its readers do too, or move the cut"
        )
