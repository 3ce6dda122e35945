"""Pace: what a step of a system amounts to, and how long it should take.

Nothing is timed here: work is counted (`engine.work`), and the rates are constants.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from antiphon.comms.inputs import InputModel
from antiphon.comms.predictors import LinearGradient, LocalGradient, Predictor
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.clock import Windows
from antiphon.engine.core.system import System
from antiphon.engine.planning import operations as work
from antiphon.engine.planning.operations import Passes, Work

__all__ = ["CPU", "GPU", "Arrangement", "Load", "Loads", "Rates", "length_of", "seconds"]


@dataclass(frozen=True)
class Rates:
    """What a device can do; all that is said of times rests on these figures.

    Attributes:
        turn: Seconds of Python for an agent's tick, or a cohort's.
        message: Seconds of Python for a message, or a bundle's.
        operation: Seconds to start a tensor operation and to note it for its gradient.
        flops: Floating-point operations a second in products of matrices.
        bandwidth: Bytes a second that operations read and write.
    """

    turn: float
    message: float
    operation: float
    flops: float
    bandwidth: float


CPU = Rates(turn=90e-6, message=30e-6, operation=5e-6, flops=170e9, bandwidth=19e9)
"""One core of the machine of `benchmarks/results` (AMD EPYC, 2.6 GHz, AVX-512; torch 2.13, one thread): fitted to the CPU
time of the library's scenarios and of rings of 4 to 1,024 agents on both backends, which it gives within a factor of two."""
GPU = Rates(turn=90e-6, message=30e-6, operation=10e-6, flops=30e12, bandwidth=2e12)
"""A large GPU: about half of what the data sheet of NVIDIA's H100 says (67 TFLOP/s, 3.35 TB/s), behind the same Python and
torch's eager launches of some 10 microseconds. Not measured."""
_OF_A_TICK, _OF_A_BUNDLE = 20, 10
"""Operations around a tick (reading, losses, handing gradients on) and around a bundle's messages (gathering them)."""
_LARGEST = 1 << 14
"""Messages of more numbers than this are put to their predictors one by one (`comms.stacked`)."""


@dataclass(frozen=True)
class Arrangement:
    """Who is run as one; a backend's own order is not in it.

    Attributes:
        agents: The members of each cohort; who stands alone is one by itself.
        bundles: The channels of each bundle.
        channels: Those that are in none.
    """

    agents: Sequence[Sequence[Agent]]
    bundles: Sequence[Sequence[Channel]]
    channels: Sequence[Channel]

    @property
    def carriers(self) -> list[Sequence[Channel]]:
        """All channels, bundles first."""
        return [*self.bundles, *((channel,) for channel in self.channels)]


@dataclass(frozen=True)
class Load:
    """What a step amounts to, on average.

    Attributes:
        ticks: Of an agent, or of a cohort.
        messages: Sent by an agent, or by a cohort as one.
        work: What is computed.
    """

    ticks: float
    messages: float
    work: Work


def seconds(load: Load, rates: Rates) -> float:
    """Return how long a step should take."""
    started = load.ticks * rates.turn + load.messages * rates.message + load.work.operations * rates.operation
    return started + load.work.flop / rates.flops + load.work.bytes / rates.bandwidth


def length_of(windows: Windows) -> int:
    """Return the steps of a window; of episodes to come, of the longest."""
    return windows.end(1) - windows.end(0)


class Loads:
    """Counts what a step of a system amounts to, each kind of part once.

    Args:
        system: Whose steps; only shapes and clocks count.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self._networks: dict[Hashable, Passes] = {}
        self._models: dict[Hashable, Work] = {}

    def of(self, arrangement: Arrangement) -> Load:
        """Return what a step amounts to."""
        ticks = sum(1 / members[0].clock.period for members in arrangement.agents)
        bundled = sum(self.sent(members[0]) for members in arrangement.bundles)
        messages = bundled + sum(self.sent(channel) for channel in arrangement.channels)
        total = Work(operations=_OF_A_TICK * ticks + _OF_A_BUNDLE * bundled)
        for members in arrangement.agents:
            total += self._agents(members)
        kinds: dict[Hashable, list[Channel]] = {}
        for bundle in arrangement.carriers:
            kinds.setdefault(self._as_one(bundle), []).extend(bundle)
        for alike in kinds.values():
            total += self._predictors(alike[0]).together(len(alike)) * self.used(alike[0])
        return Load(ticks, messages, total)

    def sent(self, channel: Channel) -> float:
        """Return how many messages a step a channel carries."""
        return channel.ledger.sender.rate / channel.ledger.sender.clock.period

    def used(self, channel: Channel) -> float:
        """Return how many of them are read as messages: of states, one a window."""
        if channel.state:
            return 1 / length_of(channel.ledger.windows)
        return min(self.sent(channel), channel.slots / channel.ledger.receiver.period)

    def passes(self, agent: Agent) -> Passes:
        """Return the work of a tick, and that of its gradients."""
        learner = agent.learner
        returns = any(channel.coupling == "locked" or channel.ledger.returns for channel in agent.inputs)
        key = learner.network.signature(), returns
        if key not in self._networks:
            self._networks[key] = work.of_network(
                learner.network,
                learner.parameters,
                learner.buffers,
                self.system.batch,
                self.system.dtype,
                returns=returns,
            )
        return self._networks[key]

    def learns(self, agent: Agent) -> bool:
        """Whether any learning signal comes to an agent, or goes through it."""
        return any(
            member.goal is not None
            or any(c.injects or c.coupling == "delayed" for c in member.outputs)
            or (member.memory is not None and member.memory.injects)
            for member in map(self.system.agents.__getitem__, self.system.group_of[agent.name].members)
        )

    def _agents(self, members: Sequence[Agent]) -> Work:
        """What agents that are run as one compute in a step; a cohort learns whole where any of it does."""
        first = members[0]
        unit = self.system.group_of[first.name]
        forwards, backwards = self.passes(first)
        participates = 1 - (1 - first.p_update) ** len(members)
        tick = forwards * (2 if unit.late else 1)  # late learners compute their windows again
        update = Work()
        if self.learns(first):
            tick += backwards * participates
            update = work.of_optimiser(first.learner.trainable) * (participates / length_of(unit.windows))
        return (tick * (1 / first.clock.period) + update).together(len(members))

    def _as_one(self, bundle: Sequence[Channel]) -> Hashable:
        """Small linear predictors of one shape are computed as one, whichever backend runs their agents."""
        first = bundle[0]
        linear = isinstance(first.predictor, LinearGradient | LocalGradient) and not first.predictor.hidden
        if len(bundle) > 1 or not linear or first.size * self.system.batch > _LARGEST:
            return first.name
        return _kind(first.predictor), _kind(first.input), self.used(first), first.ledger.link.delay

    def _predictors(self, channel: Channel) -> Work:
        """What the predictors of a channel compute for one message that is read."""
        total = Work()
        for model in (channel.predictor, channel.input):
            if model is None:
                continue
            key = _kind(model)
            if key not in self._models:
                rows = self.system.batch
                made = (
                    work.of_predictor(model, rows)
                    if isinstance(model, Predictor)
                    else work.of_input(model, rows)
                )
                self._models[key] = made + work.of_optimiser(model.trainable)
            total += self._models[key]
        return total


def _kind(model: Predictor | InputModel | None) -> Hashable:
    if model is None:
        return None
    return type(model), model.context, model.norm, tuple(tuple(p.shape) for p in model.trainable)
