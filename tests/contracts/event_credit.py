"""The event simulator's third part: whose doing, at which tick, has a gradient when its agent learns.

Credit starts at objectives and at what is put on messages and states, and goes back over what was read: over locked
channels and over the state, within the window in which the group learns, in environments whose episode went on.
"""

from __future__ import annotations

from tests.contracts.event_learning import Learning
from tests.contracts.event_scene import Place, Scene, Window, state_of

Doing = tuple[str, int, int]
"""An agent, its tick and the environment."""


class Credit:
    """Follows credit back through each window that a group learns from.

    Args:
        scene: What is played.
        ticks: Of each agent.
        read: The stamps read at each place.
        learning: Who learned from which window when.
    """

    def __init__(
        self,
        scene: Scene,
        ticks: dict[str, list[int]],
        read: dict[Place, tuple[int, ...]],
        learning: Learning,
    ) -> None:
        self.scene, self.ticks, self.read, self.learning = scene, ticks, read, learning
        self.sender = {x.name: x.sender for x in learning.channels}
        self.found: dict[tuple[str, int], frozenset[tuple[int, int]]] = {}
        """By (agent, step at which it learns): the (tick, environment) that have a gradient."""

    def play(self) -> None:
        """Go through the windows in the order in which they were learned from."""
        for window, step in sorted(self.learning.taken.items(), key=lambda item: item[1]):
            inside = self._inside(window)
            todo = [doing for doing in inside if doing[0] in self.scene.judged]
            todo += self._pulled(window[0]) & inside
            credited = set(todo)
            while todo:
                before = (self._causes(todo.pop()) & inside) - credited
                credited |= before
                todo += before
            for agent in {name for name, _, _ in credited}:
                here = frozenset((t, b) for name, t, b in credited if name == agent)
                self.found[agent, step] = self.found.get((agent, step), frozenset()) | here

    def _inside(self, window: Window) -> set[Doing]:
        """All that the members of a group who learn did within a window."""
        group, number = window
        first, end = self.learning.windows[group][number]
        members = [a for a, u in self.learning.group_of.items() if u == group]
        return {
            (a, t, b)
            for a in members
            if (a, number) not in self.scene.undrawn
            for t in self.ticks[a]
            if first <= t <= end
            for b in range(self.scene.batch)
        }

    def _pulled(self, group: str) -> set[Doing]:
        """The makings of messages and states of a group that a gradient is put on."""
        returned = {x.name for x in self.scene.links if x.coupling == "delayed"}
        moved = self.learning.moved(self.found) if returned else {}
        return {
            (self.sender[name], s, b)
            for (name, s), (_, rows) in self.learning.injected.items()
            if self.learning.group_of[self.sender[name]] == group
            for b in (moved[name, s] if name in returned else rows)
        }

    def _causes(self, doing: Doing) -> set[Doing]:
        """What a tick read that passes a gradient on."""
        agent, t, b = doing
        passing = [x.name for x in self.scene.links if x.receiver == agent and x.coupling == "locked"]
        if agent in self.scene.memories:
            passing.append(state_of(agent))
        return {(self.sender[name], s, b) for name in passing for s in self.read[name, t, b]}
