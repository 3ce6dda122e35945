"""Where a cut begins: before every call of its submodule, whose forward may call it several times.

Calls that do not depend on each other, as of the towers of a Siamese network, begin one part. A call on what another one has
led to, as in a loop, begins a part of its own. Functions of its parameters (`F.linear(x, self.layer.weight)`) are calls too, if
they do not depend on one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import fx

from antiphon.base.errors import ScenarioError
from antiphon.splitting.graph import ModelGraph, storages

Nodes = frozenset[fx.Node]


@dataclass(frozen=True)
class Start:
    """Where a part begins.

    Attributes:
        name: The submodule before which the model is cut.
        node: The first node after the cut.
        before: Later nodes that belong before the cut: further calls, which do not depend on the first, read them.
    """

    name: str
    node: fx.Node
    before: Nodes = frozenset()


def starts_of(trace: ModelGraph, name: str) -> list[Start]:
    """Return where the parts begin that a cut before a submodule makes.

    Raises:
        ScenarioError: Something is written in place between two calls that would be computed in another order.
    """
    calls = trace.calls.get(name, ())
    graph = _Dependencies(trace)
    weights = [
        node for node in graph.nodes if node.op == "get_attr" and f"{node.target}".startswith(f"{name}.")
    ]
    if len(calls) < 2 and not weights:
        return [Start(name, trace.entries[name])]
    behind = [graph.behind(call) for call in calls]
    rounds: list[int] = []
    for index, call in enumerate(calls):
        earlier = [rounds[i] for i in range(index) if not behind[i].isdisjoint(call)]
        rounds.append(1 + max(earlier, default=-1))
    within = set().union(*calls, *behind)
    uses = [node for node in graph.uses(weights, trace.entries[name]) if node not in within]
    starts = []
    for number in range(max(rounds) + 1):
        together = [
            call for call, round_of_call in zip(calls, rounds, strict=True) if round_of_call == number
        ]
        first = min((node for call in together for node in call), key=graph.order.__getitem__)
        starts.append(Start(name, first, graph.before(name, first, together, [] if number else uses)))
    return starts


class _Dependencies:
    """What the nodes of a trace depend on, also by way of what is written in place."""

    def __init__(self, trace: ModelGraph) -> None:
        self.trace = trace
        self.nodes = [node for node in trace.graph.nodes if node in trace.facts]
        self.order = {node: index for index, node in enumerate(self.nodes)}
        self.held = {node: storages(trace.facts[node].value) for node in self.nodes}

    def uses(self, weights: Iterable[fx.Node], first: fx.Node) -> list[fx.Node]:
        """What is combined with weights after the first call."""
        outside, from_weights = [], set(weights)
        for node in self.nodes[self.order[first] :]:
            inputs = node.all_input_nodes
            if inputs and from_weights.issuperset(inputs):
                from_weights.add(node)
            elif not from_weights.isdisjoint(inputs):
                outside += [n for n in inputs if n not in from_weights]
        return outside

    def behind(self, call: Nodes) -> set[fx.Node]:
        dependent, written = set(call), set[int]()
        for node in self.nodes:
            inputs = node.all_input_nodes
            if node in dependent or any(n in dependent or self.held[n] & written for n in inputs):
                dependent.add(node)
                written |= self.trace.facts[node].writes
        return dependent

    def before(self, name: str, first: fx.Node, calls: Iterable[Nodes], uses: Iterable[fx.Node]) -> Nodes:
        """The nodes after the first call that the inputs of the others depend on; of uses, those that bring in parameters."""
        inputs = [n for call in calls for node in call for n in node.all_input_nodes if n not in call]
        learning = [n for n in self._after(first, uses) if self._brings_parameters(n)]
        moved = self._after(first, [*inputs, *learning])
        self._check_writes(name, first, moved)
        return frozenset(moved)

    def _after(self, first: fx.Node, nodes: Iterable[fx.Node]) -> set[fx.Node]:
        """Some nodes and all that they depend on, from a node on."""
        waiting, reached = list(nodes), set[fx.Node]()
        while waiting:
            node = waiting.pop()
            if node not in reached and self.order[node] >= self.order[first]:
                reached.add(node)
                waiting += node.all_input_nodes
        return reached

    def _brings_parameters(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(True for _ in self.trace.root.get_submodule(str(node.target)).parameters())
        return any(
            n.op == "get_attr" and "parameter" in self.trace.facts[n].depends for n in node.all_input_nodes
        )

    def _check_writes(self, name: str, first: fx.Node, moved: Collection[fx.Node]) -> None:
        """Refuse writes in place between the calls that one of the reordered nodes makes or would miss."""
        last = max((self.order[node] for node in moved), default=-1)
        read = frozenset[int]().union(
            *(self.held[n] for node in moved for n in (node, *node.all_input_nodes))
        )
        for node in self.nodes[self.order[first] : last + 1]:
            writes = self.trace.facts[node].writes
            outside = [n for n in self.nodes[: last + 1] if n not in moved and self.held[n] & writes]
            if writes & read and (node not in moved or outside):
                raise ScenarioError(
                    f"at: '{name}' is called several times, and '{node}' ({self.trace.facts[node].where}) writes in place "
                    "between the calls; write to a copy (inplace=False, x = x + y), or cut before another submodule"
                )
