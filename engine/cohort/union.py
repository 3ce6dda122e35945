"""Unions: several systems of one scenario, one for each seed, as one whose agents are the agents of all.

An agent of the union is `name@world`. It shares all numbers with the one it stands for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from antiphon.engine.cohort.moments import JointSignals
from antiphon.engine.core.divergence import Divergence
from antiphon.engine.core.message import Record
from antiphon.engine.core.parts import Agent, Channel, LearningGroup
from antiphon.engine.core.schedule import Schedule
from antiphon.engine.core.signals import StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import AgentTick, Input, Tape, Tick

__all__ = ["Union", "bare", "reason_apart"]


def named(name: str, world: int) -> str:
    """Return the name of an agent or channel in a union."""
    return f"{name}@{world}"


def bare(name: str) -> str:
    """Return the name that an agent or channel of a union has in its own system."""
    return name.rpartition("@")[0]


def reason_apart(system: System, alone: Sequence[str]) -> str | None:
    """Say why seeds of a scenario cannot be run at once; None: they can.

    Args:
        system: Of one seed.
        alone: The reasons why agents of the union are run as themselves, whoever is like them.
    """
    if system.episode is not None:
        return "how long an episode is differs from seed to seed"
    world = system.description
    if any(agent.align is not None for agent in system.agents.values()) and not (
        world.endless or world.is_stream
    ):
        return "agents work on the signals of messages, whose episodes end in one seed and go on in another"
    if any(len(agent.learner.network.input_shape) > 1 for agent in system.agents.values()):
        return "convolutions of several seeds cost more together than apart"
    return alone[0] if alone else None


class Union:
    """Systems as one.

    Args:
        systems: Of one scenario, each with a seed of its own.
        divergence: What follows numbers that are not finite.

    Attributes:
        system: The one.
    """

    def __init__(self, systems: Sequence[System], divergence: Divergence) -> None:
        self.systems = list(systems)
        first = systems[0]
        agents: dict[str, Agent] = {}
        channels: dict[str, Channel] = {}
        units: list[LearningGroup] = []
        for world, system in enumerate(systems):
            for name, agent in system.agents.items():
                agents[named(name, world)] = twin = copy.copy(agent)
                twin.name, twin.inputs, twin.outputs = named(name, world), [], []
                twin.align = None if agent.align is None else named(agent.align, world)
            for name, channel in system.channels.items():
                channels[named(name, world)] = own = copy.copy(channel)
                own.name = named(name, world)
                own.sender, own.receiver = named(channel.sender, world), named(channel.receiver, world)
                if own.state:
                    agents[own.sender].memory = own
                else:
                    agents[own.sender].outputs.append(own)
                    agents[own.receiver].inputs.append(own)
            units += [
                LearningGroup(
                    tuple(named(name, world) for name in unit.members), unit.windows, late=unit.late
                )
                for unit in system.units
            ]
        waves = [
            [
                tuple(named(name, world) for name in call)
                for world, system in enumerate(systems)
                for call in system.schedule.waves[depth]
            ]
            for depth in range(len(first.schedule.waves))
        ]
        clocks = {name: agent.clock for name, agent in agents.items()}
        self.system = System(
            agents,
            channels,
            units,
            Schedule(clocks, waves, units),
            first.description,
            first.batch,
            first.dtype,
            first.device,
            divergence,
            cache=first.cache,
            worlds=len(systems),
            world_of={name: int(name.rpartition("@")[2]) for name in agents},
        )

    def part(self) -> None:
        """Bring the systems up to what the union has become."""
        self._exchange(self.system, bare, to_union=False)
        for world, system in enumerate(self.systems):
            for record in records_of(system):
                record.step_signals = _own(record.step_signals, world)
            for part in (part for tape in _tapes(system) for tick in tape.ticks for part in tick.parts):
                part.step_signals = _own(part.step_signals, world)

    def join(self) -> None:
        """Bring the union up to what the systems have become."""
        self._exchange(self.system, bare, to_union=True)

    def _exchange(self, union: System, bare: Callable[[str], str], *, to_union: bool) -> None:
        units = iter(union.units)
        for world, system in enumerate(self.systems):
            for name, agent in system.agents.items():
                other = union.agents[named(name, world)]
                source, target = (agent, other) if to_union else (other, agent)
                target.agent_disabled, target.trail = source.agent_disabled, source.trail
            for name, channel in system.channels.items():
                twin = union.channels[named(name, world)]
                giver, taker = (channel, twin) if to_union else (twin, channel)
                taker.predictor_disabled, taker.input_model_disabled = (
                    giver.predictor_disabled,
                    giver.input_model_disabled,
                )

            def called(name: str, world: int = world) -> str:
                return named(name, world) if to_union else bare(name)

            for own in system.units:
                joint = next(units)
                old, new = (own, joint) if to_union else (joint, own)
                new.tape = _renamed(old.tape, called)
                new.past = [_renamed(tape, called) for tape in old.past]


def _tapes(system: System) -> Iterator[Tape]:
    for unit in system.units:
        yield from (unit.tape, *unit.pending, *unit.past)


def records_of(system: System) -> Iterator[Record]:
    """Yield all records of a system; some more than once."""
    for channel in system.channels.values():
        ledger = channel.ledger
        yield from ledger.records.values()
        yield from (record for found in ledger.returned.values() for record in found)
        yield from (use.record for found in ledger.uses.values() for use in found.values())
    for tape in _tapes(system):
        yield from (record for _, record in tape.sent)
        for tick in tape.ticks:
            for part in tick.parts:
                yield from (entry.use.record for entry in part.consumed if entry.use is not None)


def _own(step_signals: StepSignals, world: int) -> StepSignals:
    return step_signals.each[world] if isinstance(step_signals, JointSignals) else step_signals


def _renamed(tape: Tape, called: Callable[[str], str]) -> Tape:
    def entry(read: Input) -> Input:
        return replace(read, channel=called(read.channel))

    def part(own: AgentTick) -> AgentTick:
        memory = None if own.memory is None else entry(own.memory)
        return replace(own, agent=called(own.agent), inputs=[entry(e) for e in own.inputs], memory=memory)

    return Tape(
        tape.window,
        {called(name): buffers for name, buffers in tape.start.items()},
        [Tick(tick.step, [part(own) for own in tick.parts]) for tick in tape.ticks],
        [(called(name), record) for name, record in tape.sent],
    )
