"""Rounds: a system that runs for ever, composed as a module that is handed its own state again.

What is due repeats itself after the least common multiple of all periods, a round. One round is a graph of plain
torch layers, from the signals of its steps and the state before it to its outputs and the state after it; the module
lays as many of them end to end as it is shown.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, final

import torch
from torch import fx, nn

from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.inference.unrolling import Unroller, observed, words
from antiphon.errors import ScenarioError

__all__ = ["compose_rounds", "steps_per_round"]

_LONGEST = 4096
"""Steps of a round, at most: its ticks are all in the graph."""
_STEPS = "steps"
"""Entry of the state: how many steps have been taken, int64 []."""


def steps_per_round(system: System) -> int:
    """Return after how many steps it repeats itself who ticks, sends and reads what.

    Raises:
        ScenarioError: They are too many for a graph.
    """
    lengths = [agent.clock.period for agent in system.agents.values()]
    for channel in system.channels.values():
        sends = channel.ledger.sender
        lengths.append(sends.clock.period * Fraction(str(sends.rate)).denominator)
    found = math.lcm(*lengths)
    if found > _LONGEST:
        raise ScenarioError(
            f"compose: a round of all clocks and rates takes {found:,} steps, more than {_LONGEST:,}; "
            "choose periods and rates with a smaller common multiple"
        )
    return found


def compose_rounds(system: System, agents: Sequence[str]) -> fx.GraphModule:
    """Return the system as one module in evaluation mode that runs for ever, with copies of the numbers.

    Args:
        system: What to compose.
        agents: Whose objective outputs it returns.

    Returns:
        A module called with the observed signals by name (what is no letter or digit in a name becomes `_`), each
        [steps, batch, *shape], where `steps` is a multiple of its attribute `steps_per_round`, and with `state`: what
        the call before returned, or None to begin in silence. It returns {agent: [ticks, batch, outputs]} and
        the new state, a flat dict of tensors: states of agents and messages on their way, [batch, …] each, and
        `steps`, [] int64, how many have been taken.

    Raises:
        ScenarioError: No agent observes anything, or a round is too long.
    """
    length = steps_per_round(system)
    rounds = _Round(system, length)
    rounds.unroll(length)
    return _laid_end_to_end(rounds, rounds.finished(agents), agents)


def _laid_end_to_end(rounds: _Round, module: fx.GraphModule, agents: Sequence[str]) -> fx.GraphModule:
    """A module that cuts the signals into rounds and folds the state through them.

    fx graphs have no loop. `functools.reduce` is one, and with the other builtins here it stays a single node when
    the module is pickled and traced again.
    """
    root, graph = nn.Module(), fx.Graph()
    root.round, root.steps_per_round = module, rounds.length  # type: ignore[assignment]
    signals = [graph.placeholder(word) for word in words(rounds.signals, taken=["state"]).values()]
    given = graph.placeholder("state", default_value=None)
    size = graph.call_method("size", (signals[0], 1))
    silence = {_STEPS: graph.call_method("new_zeros", (signals[0], ()), {"dtype": torch.int64})}
    for key, shape in rounds.carried.items():
        silence[key] = graph.call_method(
            "new_zeros", (signals[0], (size, *shape)), {"dtype": rounds.system.dtype}
        )
    state = _whole(graph, next, _whole(graph, filter, None, [given, silence]))  # the first that is not None
    length = graph.get_attr("steps_per_round")
    shown = [
        graph.call_method("unbind", (graph.call_method("unflatten", (signal, 0, (-1, length))),))
        for signal in signals
    ]
    start = (state, *(() for _ in agents))
    end = _whole(graph, functools.reduce, graph.get_attr("round"), _whole(graph, zip, *shown), start)
    parts = [graph.call_function(operator.getitem, (end, at)) for at in range(len(agents) + 1)]
    outputs = {
        name: graph.call_function(torch.cat, (part,)) for name, part in zip(agents, parts[1:], strict=True)
    }
    graph.output((outputs, parts[0]))
    return fx.GraphModule(root, graph, class_name="Corporation").eval()


def _whole(graph: fx.Graph, function: Callable[..., Any], *args: Any) -> fx.Node:
    """Append the call of a function that is not traced into."""
    node = graph.call_function(function, args)
    node.meta["is_wrapped"] = True
    return node


@final
class _Round(Unroller):
    """One round, anywhere but at the beginning: what came before it is in the state.

    Steps are counted from the round's start; those below zero are of earlier rounds.

    Args:
        system: Whose.
        length: Steps in a round.

    Attributes:
        signals: What is observed, in the order in which it is shown.
        carried: Shapes of the state's entries per environment, by name.
    """

    def __init__(self, system: System, length: int) -> None:
        super().__init__(system)
        self.length = length
        self.signals = observed(system)
        self.carried: dict[str, tuple[int, ...]] = {}
        self._so_far = self.graph.placeholder("so_far")
        shown = self.graph.placeholder("shown")
        self._shown = {name: self._item(shown, at) for at, name in enumerate(self.signals)}
        self._state = self._item(self._so_far, 0)
        self._steps = self._item(self._state, _STEPS)
        self._at: dict[tuple[str, int], fx.Node] = {}
        self._past: dict[str, fx.Node] = {}
        self._left: list[tuple[str, Callable[[], fx.Node]]] = []
        longest = max(
            [
                c.ledger.link.delay + c.ledger.receiver.period + c.ledger.sender.clock.period
                for c in system.channels.values()
            ],
            default=0,
        )
        self._later = (longest // length + 2) * length
        """A round's start at which all that is ever due has been made (a sent share of ticks repeats in a round)."""

    def finished(self, agents: Sequence[str]) -> fx.GraphModule:
        """Return the round: (state, outputs so far of each agent) and the signals in, the same out."""
        after = {_STEPS: self.graph.call_function(torch.add, (self._steps, self.length))}
        for (
            key,
            left,
        ) in self._left:  # it grows as it is read: what lies further back moves up a round at a time
            after[key] = left()
        said = [
            self.graph.call_function(
                operator.add,
                (
                    self._item(self._so_far, at),
                    (self.graph.call_function(torch.stack, (self.outputs[name],)),),
                ),
            )
            for at, name in enumerate(agents, 1)
        ]
        self.graph.output((after, *said))
        return fx.GraphModule(self.root, self.graph, class_name="Round").eval()

    def due(self, channel: Channel, step: int) -> list[int]:
        return [stamp - self._later for stamp in channel.ledger.due(step + self._later)]

    def made(self, stamps: Sequence[int]) -> fx.Node | None:
        if all(stamp >= 0 for stamp in stamps):
            return None
        at = self.graph.call_method("new_tensor", (self._steps, list(stamps)))
        return self.graph.call_function(torch.ge, (self.graph.call_function(torch.add, (at, self._steps)), 0))

    def signal(self, name: str, step: int | None) -> fx.Node:
        shape = self.system.description.signals[name].shape
        if step is None:
            return self.silence(*shape)
        if step < 0:
            return self._before(f"{name}@{step}", shape, lambda: self.signal(name, step + self.length))
        if (name, step) not in self._at:
            self._at[name, step] = self.graph.call_method("select", (self._shown[name], 0, step))
        return self._at[name, step]

    def message(self, channel: Channel, stamp: int) -> fx.Node:
        if stamp >= 0:
            return self.messages[channel.name, stamp]
        key = f"{channel.name}@{stamp}"
        return self._before(key, (channel.size,), lambda: self.message(channel, stamp + self.length))

    def state(self, agent: Agent, step: int) -> fx.Node:
        assert agent.memory is not None
        before = step - agent.clock.period
        if before >= 0:
            return self.states[agent.name, before]
        left = before + self.length
        size = agent.learner.network.state_size
        return self._before(agent.memory.name, (size,), lambda: self.states[agent.name, left])

    def rows(self) -> fx.Node:
        return self.signal(self.signals[0], 0)

    def _before(self, key: str, shape: tuple[int, ...], left: Callable[[], fx.Node]) -> fx.Node:
        """An entry of the state, and what this round leaves in its place."""
        if key not in self._past:
            self._past[key] = self._item(self._state, key)
            self.carried[key] = shape
            self._left.append((key, left))
        return self._past[key]

    def _item(self, whole: fx.Node, key: int | str) -> fx.Node:
        return self.graph.call_function(operator.getitem, (whole, key))
