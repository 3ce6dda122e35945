"""The composed system of a stream of examples, evaluated call by call instead of as a compiled graph.

A graph of many agents takes longer to be made and compiled than to be evaluated: 10,000 ticks of 1,000 agents took 14
seconds as a graph, and take 4.
The calls are those of the exported module, in its order, on the same copies of the parameters, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.inference.export import Ticks, emitters_of, observed
from antiphon.engine.inference.rollout import steps_needed, ticks_needed

__all__ = ["Calls", "ComposedSystem", "as_argument"]


class ComposedSystem:
    """A system over perfect links, with copies of its parameters, in evaluation mode.

    Args:
        system: What is copied; its environment is a stream of examples.
        agents: Whose objective outputs are wanted.

    Attributes:
        ticks: Agent and step of the ticks that the newest outputs rest on, in order.

    Raises:
        ScenarioError: No agent observes anything.
    """

    def __init__(self, system: System, agents: Sequence[str]) -> None:
        self._system = system
        self._agents = agents
        self._observed = observed(system)
        self._root = nn.Module()
        self._emitters = emitters_of(system, self._root)
        self._root.eval()

        def read(channel: Channel, step: int) -> list[int]:
            return channel.mailbox.due(step)

        every = [(name, step) for step in range(steps_needed(system)) for name in system.schedule.ticks(step)]
        newest = {name: step for name, step in every if name in set(agents)}
        needed = ticks_needed(system, every, newest, read)
        self.ticks = [tick for tick in every if tick in needed]

    @torch.no_grad()
    def outputs(
        self, signals: Mapping[str, Tensor], on_tick: Callable[[], None] = lambda: None
    ) -> dict[str, Tensor]:
        """Return the newest objective output of each agent, [rows, outputs].

        Args:
            signals: Examples, by name [rows, *shape]; signals that no agent observes are not looked at.
            on_tick: Called after every tick.
        """
        system, done = self._system, Ticks(self._system, graph=Calls(self._root))
        given: dict[str, Any] = {name: as_argument(system, name, signals[name]) for name in self._observed}
        done.signals = given
        kept_from = dict.fromkeys(system.channels, 0)
        for name, step in self.ticks:
            agent = system.agents[name]
            done.append_tick(self._emitters[system.owner_of[name]], agent, step)
            del done.outputs.get(name, [])[:-1]
            for channel in agent.channels:  # what is older than what was read is not read again
                values, sender = (done.states, name) if channel.state else (done.messages, channel.name)
                oldest = min(channel.mailbox.due(step), default=0)
                for stamp in range(kept_from[channel.name], oldest):
                    values.pop((sender, stamp), None)
                kept_from[channel.name] = oldest
            on_tick()
        return {name: done.outputs[name][-1] for name in self._agents}  # type: ignore[misc]


def as_argument(system: System, name: str, signal: Tensor) -> Tensor:
    """Return a signal as the composed module takes it: floats of the system's type, or classes."""
    return signal.to(system.dtype) if system.description.signals[name].classes is None else signal


class Calls(fx.Graph):
    """Calls that are carried out at once, on tensors, instead of being entered into a graph.

    Args:
        root: The modules that are called.
    """

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self._called = root

    def call_module(self, name: str, args: Any = None, settings: Any = None, *_: Any) -> Any:
        return self._called.get_submodule(name)(*args, **(settings or {}))

    def call_method(self, name: str, args: Any = None, settings: Any = None, *_: Any) -> Any:
        return getattr(args[0], name)(*args[1:], **(settings or {}))

    def call_function(self, function: Any, args: Any = None, settings: Any = None, *_: Any) -> Any:
        return function(*args, **(settings or {}))
