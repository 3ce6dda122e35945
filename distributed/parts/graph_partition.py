"""Balanced partition of a weighted graph: parts of nearly equal cost, with little weight on the edges between them.

Multilevel recursive bisection (Karypis and Kumar 1998, "A fast and high quality multilevel scheme for partitioning irregular
graphs"): heavy edges are contracted until the graph is small, it is cut in two along the order of its nodes, from several
starts, and on the way back each level is refined by moves of single nodes (Fiduccia and Mattheyses 1982, "A linear-time
heuristic for improving network partitions"). A graph of few nodes is bisected by trying all. The result depends on nothing but
the graph.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

_FEW = 12
"""Nodes whose bisections are all tried."""
_COARSE = 60
"""Nodes of the graph at which contraction ends."""
_STARTS = 16
"""Nodes from which a first side begins."""
_PASSES = 8
"""Passes of refinement on a level, at most."""
_PATIENCE = 300
"""Moves without a better bisection after which a pass ends."""
_TOLERANCE = 0.05
"""Share of its cost by which a part may differ from the mean, for the sake of a smaller cut."""

Quality = tuple[float, float, float]
"""Cost beyond the tolerance, weight of the cut edges, distance from the target: less is better, in this order."""


@dataclass(frozen=True)
class WeightedGraph:
    """An undirected graph of numbered nodes.

    Attributes:
        costs: Of each node, positive.
        neighbours: Of each node, the weight of the edge to each of its neighbours, of which it is none itself.
    """

    costs: Sequence[float]
    neighbours: Sequence[dict[int, float]]

    def subgraph(self, nodes: Sequence[int]) -> WeightedGraph:
        number_by_node = {node: number for number, node in enumerate(nodes)}
        near = [
            {number_by_node[o]: w for o, w in self.neighbours[node].items() if o in number_by_node}
            for node in nodes
        ]
        return WeightedGraph([self.costs[node] for node in nodes], near)


def partition_graph(graph: WeightedGraph, parts: int) -> list[int]:
    """Return the part of each node, from 0; no part is empty.

    Args:
        graph: Of at least as many nodes as parts.
    """
    return _partition(graph, parts, _TOLERANCE / max(1, (parts - 1).bit_length()))


def _partition(graph: WeightedGraph, parts: int, tolerance: float) -> list[int]:
    part_by_node = [0] * len(graph.costs)
    if parts == 1:
        return part_by_node
    first = parts // 2
    sides = _Bisection(graph, first, parts - first, tolerance).run()
    for side, count, offset in ((0, first, 0), (1, parts - first, first)):
        nodes = [node for node, of in enumerate(sides) if of == side]
        for node, part in zip(nodes, _partition(graph.subgraph(nodes), count, tolerance), strict=True):
            part_by_node[node] = offset + part
    return part_by_node


class _Bisection:
    """A bisection of a graph into sides that become `first` and `second` parts: their costs are in that proportion."""

    def __init__(self, graph: WeightedGraph, first: int, second: int, tolerance: float) -> None:
        self.graph, self.least = graph, (first, second)
        self.total = sum(graph.costs)
        self.target = self.total * first / (first + second)
        self.slack = tolerance * min(self.target, self.total - self.target)

    def run(self) -> list[int]:
        """Return the side of each node, 0 or 1."""
        levels: list[tuple[WeightedGraph, list[int]]] = []
        graph = self.graph
        while len(graph.costs) > max(_COARSE, 2 * sum(self.least)):
            coarse_nodes, coarse = _contracted(graph, self.total / _COARSE)
            if len(coarse.costs) > 0.95 * len(graph.costs):
                break
            levels.append((graph, coarse_nodes))
            graph = coarse
        sides = self._exact(graph) if len(graph.costs) <= _FEW else self._initial(graph)
        for finer, coarse_nodes in reversed(levels):
            sides = self._refined(finer, [sides[node] for node in coarse_nodes])
        return sides

    def _quality(self, cost: float, cut: float) -> Quality:
        away = abs(cost - self.target)
        return max(away, self.slack), cut, away

    def _quality_of(self, graph: WeightedGraph, sides: Sequence[int]) -> Quality:
        cost = sum(node_cost for node_cost, side in zip(graph.costs, sides, strict=True) if side == 0)
        return self._quality(cost, _cut(graph, sides))

    def _exact(self, graph: WeightedGraph) -> list[int]:
        nodes = range(len(graph.costs))
        bisections = [[1 - (number >> node & 1) for node in nodes] for number in range(1, 1 << len(nodes))]
        allowed = [s for s in bisections if len(s) - sum(s) >= self.least[0] and sum(s) >= self.least[1]]
        return min(allowed, key=lambda sides: self._quality_of(graph, sides))

    def _initial(self, graph: WeightedGraph) -> list[int]:
        size = len(graph.costs)
        starts = dict.fromkeys(number * size // _STARTS for number in range(_STARTS))
        bisections = [self._refined(graph, self._window(graph, start)) for start in starts]
        return min(bisections, key=lambda sides: self._quality_of(graph, sides))

    def _window(self, graph: WeightedGraph, start: int) -> list[int]:
        """Return the sides where the first has the nodes from one on, in their order, until it has its cost."""
        size = len(graph.costs)
        sides, cost = [1] * size, 0.0
        for count in range(size - self.least[1]):
            node = (start + count) % size
            after = cost + graph.costs[node]
            if count >= self.least[0] and abs(after - self.target) > abs(cost - self.target):
                break
            sides[node], cost = 0, after
        return sides

    def _refined(self, graph: WeightedGraph, sides: list[int]) -> list[int]:
        for _ in range(_PASSES):
            better = self._pass(graph, sides)
            if better is None:
                break
            sides = better
        return sides

    def _pass(self, graph: WeightedGraph, initial: list[int]) -> list[int] | None:
        """Move nodes one by one, each once, and return the best bisection on the way; None: the given one is it."""
        sides, sizes = list(initial), [initial.count(0), initial.count(1)]
        gains = _gains(graph, sides)
        waiting: list[list[tuple[float, int]]] = [[], []]
        for node, gain in enumerate(gains):
            waiting[sides[node]].append((-gain, node))
        for heap in waiting:
            heapq.heapify(heap)
        visited = [False] * len(sides)
        cost = sum(node_cost for node_cost, side in zip(graph.costs, sides, strict=True) if side == 0)
        cut = _cut(graph, sides)
        best, best_length, moves = self._quality(cost, cut), 0, list[int]()
        while len(moves) - best_length < _PATIENCE:
            side = self._heavier(cost, sizes, [self._top(heap, gains, visited) for heap in waiting])
            if side is None:
                break
            _, node = heapq.heappop(waiting[side])
            visited[node], sides[node] = True, 1 - side
            sizes[side], sizes[1 - side] = sizes[side] - 1, sizes[1 - side] + 1
            cost += graph.costs[node] if side else -graph.costs[node]
            cut -= gains[node]
            moves.append(node)
            for neighbour, weight in graph.neighbours[node].items():
                if not visited[neighbour]:
                    gains[neighbour] += 2 * weight if sides[neighbour] == side else -2 * weight
                    heapq.heappush(waiting[sides[neighbour]], (-gains[neighbour], neighbour))
            if (quality := self._quality(cost, cut)) < best:
                best, best_length = quality, len(moves)
        if not best_length:
            return None
        for node in moves[best_length:]:
            sides[node] = 1 - sides[node]
        return sides

    def _heavier(self, cost: float, sizes: Sequence[int], gains: Sequence[float | None]) -> int | None:
        """Return the side that a node leaves: the heavier one, or within the tolerance that of the larger gain."""
        movable = [s for s in (0, 1) if gains[s] is not None and sizes[s] > self.least[s]]
        if abs(cost - self.target) > self.slack:
            heavier = 0 if cost > self.target else 1
            return heavier if heavier in movable else None
        return max(movable, key=lambda s: (gains[s], (cost > self.target) == (s == 0)), default=None)

    @staticmethod
    def _top(
        waiting: list[tuple[float, int]], gains: Sequence[float], visited: Sequence[bool]
    ) -> float | None:
        """Return the largest gain of a side's nodes, and leave it at the heap's top; None: all have been visited."""
        while waiting and (visited[waiting[0][1]] or -waiting[0][0] != gains[waiting[0][1]]):
            heapq.heappop(waiting)
        return -waiting[0][0] if waiting else None


def _cut(graph: WeightedGraph, sides: Sequence[int]) -> float:
    return sum(
        weight
        for node, near in enumerate(graph.neighbours)
        if sides[node] == 0
        for neighbour, weight in near.items()
        if sides[neighbour]
    )


def _gains(graph: WeightedGraph, sides: Sequence[int]) -> list[float]:
    """By node: the weight by which the cut falls if it alone changes its side."""
    gains = []
    for node, near in enumerate(graph.neighbours):
        side = sides[node]
        gains.append(
            sum(weight if sides[neighbour] != side else -weight for neighbour, weight in near.items())
        )
    return gains


def _contracted(graph: WeightedGraph, heaviest: float) -> tuple[list[int], WeightedGraph]:
    """Contract a matching of heavy edges; return the coarse node of each node, and the coarse graph.

    Args:
        heaviest: The largest cost that a pair may have.
    """
    costs = graph.costs
    mate = [-1] * len(costs)
    for node in sorted(range(len(costs)), key=lambda index: (len(graph.neighbours[index]), index)):
        if mate[node] >= 0:
            continue
        free = [
            (-weight, costs[neighbour], neighbour)
            for neighbour, weight in graph.neighbours[node].items()
            if mate[neighbour] < 0 and costs[node] + costs[neighbour] <= heaviest
        ]
        partner = min(free)[2] if free else node
        mate[node], mate[partner] = partner, node
    coarse_nodes, size = [-1] * len(costs), 0
    for node, partner in enumerate(mate):
        if coarse_nodes[node] < 0:
            coarse_nodes[node] = coarse_nodes[partner] = size
            size += 1
    merged = [0.0] * size
    neighbours: list[dict[int, float]] = [{} for _ in range(size)]
    for node, coarse_node in enumerate(coarse_nodes):
        merged[coarse_node] += costs[node]
        near = neighbours[coarse_node]
        for neighbour, weight in graph.neighbours[node].items():
            if coarse_nodes[neighbour] != coarse_node:
                near[coarse_nodes[neighbour]] = near.get(coarse_nodes[neighbour], 0.0) + weight
    return coarse_nodes, WeightedGraph(merged, neighbours)
