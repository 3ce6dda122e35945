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
from antiphon.engine.inference.paths import steps_needed
from antiphon.engine.inference.rounds import compose_rounds
from antiphon.engine.inference.unrolling import Unroller, observed, words

__all__ = ["compose", "observed"]


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
