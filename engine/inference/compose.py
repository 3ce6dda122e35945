"""Composition: the corporation as one plain torch module, signals in, outputs out, no antiphon needed to run it.

The module is a torch.fx graph of ordinary torch layers: over a stream of examples, unrolled over the steps that an
example is shown; elsewhere over one round of all clocks, and called again and again with the state it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import fx

from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.inference.rounds import compose_rounds
from antiphon.engine.inference.unrolling import Unroller, observed, words
from antiphon.scenarios.relations import components

__all__ = ["compose", "filled", "observed", "steps_needed"]


def filled(system: System) -> dict[str, int]:
    """Return, by agent, the step of its first tick with every path to it filled.

    A path through a cycle never fills; there it is enough that all on the cycle have heard of each other.
    """
    part = components(system.agents, [(c.sender, c.receiver) for c in system.channels.values()])
    cycle = {name: {other for other in part if part[other] == part[name]} for name in part}
    heard: dict[tuple[str, int], set[str]] = {}
    """Whom an agent's tick has heard of, of those it is on a cycle with, each with all paths to it filled."""
    found: dict[str, int] = {}
    step = 0
    while len(found) < len(system.agents):
        for name in (name for call in system.schedule.calls(step) for name in call):
            full, others = True, set[str]()
            for channel in system.agents[name].inputs:
                stamps = channel.ledger.due(step)
                if channel.sender in cycle[name]:
                    others |= heard[channel.sender, stamps[-1]] if stamps else set()
                else:
                    full &= _all_there(channel, stamps, step)
                    full &= all(heard[channel.sender, stamp] == cycle[channel.sender] for stamp in stamps)
            heard[name, step] = others | {name} if full else others
            if heard[name, step] == cycle[name]:
                found.setdefault(name, step)
        step += 1
    return found


def _all_there(channel: Channel, stamps: Sequence[int], step: int) -> bool:
    """Whether a tick reads as many messages as it ever will: those before step 0 are missing."""
    ledger = channel.ledger
    if not stamps:
        return False
    since = step - ledger.receiver.period - ledger.link.delay
    return ledger.read == "last" or stamps[0] - ledger.sender.clock.period <= since


def steps_needed(system: System) -> int:
    """Return for how many steps an example must be shown: `hold`, or until every path has filled.

    An example that is an episode is shown for as long as it lasts, or until every agent has ticked.
    """
    if system.description.is_stream and system.description.episode_steps is not None:
        return max(system.hold, *(agent.clock.phase + 1 for agent in system.agents.values()))
    return max(system.hold, *(step + 1 for step in filled(system).values()))


def compose(system: System, agents: Sequence[str]) -> fx.GraphModule:
    """Return the system as one module in evaluation mode, with copies of the numbers.

    Args:
        system: What to compose.
        agents: Whose objective outputs it returns.

    Returns:
        Over a stream of examples: a module called with the observed signals by name (what is no letter or digit in
        a name becomes `_`), each [batch, *shape], that returns {agent: [batch, outputs]}; it shows them for
        `steps_needed` steps. Elsewhere: as `compose_rounds` has it.

    Raises:
        ScenarioError: No agent observes anything, or a round is too long.
    """
    if not system.description.is_stream:
        return compose_rounds(system, agents)
    example = _Example(system)
    example.unroll(steps_needed(system))
    example.graph.output({name: example.outputs[name][-1] for name in agents})
    module = fx.GraphModule(example.root, example.graph, class_name="Corporation")
    module.graph.eliminate_dead_code()
    module.recompile()
    return module.eval()


@final
class _Example(Unroller):
    """One example, shown from silence on."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._signals = {name: self.graph.placeholder(word) for name, word in words(observed(system)).items()}

    def due(self, channel: Channel, step: int) -> list[int]:
        return channel.ledger.due(step)

    def made(self, stamps: Sequence[int]) -> None:
        return None  # of an example nothing is due that was not made

    def signal(self, name: str, step: int | None) -> fx.Node:
        return self._signals[name]

    def message(self, channel: Channel, stamp: int) -> fx.Node:
        return self.messages[channel.name, stamp]

    def state(self, agent: Agent, step: int) -> fx.Node:
        before = agent.clock.latest(step - 1)
        if before is None:
            return self.silence(agent.learner.network.state_size)
        return self.states[agent.name, before]

    def rows(self) -> fx.Node:
        return next(iter(self._signals.values()))
