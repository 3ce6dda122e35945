"""Unions: several systems of one scenario, one for each seed, as one whose agents are the agents of all.

An agent of the union is `name@replica`. It shares all numbers with the one it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from antiphon.engine.build.channels import connect
from antiphon.engine.features.divergence import Divergence, Report
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import Schedule
from antiphon.engine.heart.message import LearningGroup, Read, Tick, Window
from antiphon.engine.heart.system import System
from antiphon.engine.state.hyperparameters import take_values, values_of


def named(name: str, replica: int) -> str:
    """Return the name of an agent or channel in a union."""
    return f"{name}@{replica}"


def bare(name: str) -> str:
    """Return the name that an agent or channel of a union has in its own system."""
    return name.rpartition("@")[0]


def replica_of(name: str) -> int:
    """The replica of an agent or channel, by its name there."""
    return int(name.rpartition("@")[2])


class ReplicaDivergence(Divergence):
    """A replica that diverges is stopped, and the others continue."""

    def __init__(self, each: Sequence[Divergence]) -> None:
        super().__init__(each[0].bound)
        self.each = each

    def report(self, found: Report) -> None:
        """Note that the replica has stopped."""
        self.stopped.setdefault(replica_of(found.agents[0]), str(_bare(found)))

    def note(self, found: Report) -> None:
        """Note an event in its replica."""
        self.each[replica_of(found.agents[0])].note(_bare(found))


def _bare(found: Report) -> Report:
    """A report with the names that agents and channels have in their own run."""
    channel = bare(found.channel) if found.channel else ""
    return replace(found, agents=tuple(bare(name) for name in found.agents), channel=channel)


def sequential_reason_of(system: System, alone: Sequence[str]) -> str | None:
    """Return why seeds of a scenario cannot be run at once, `alone` being why agents are run as themselves; None: they can."""
    if system.episode is not None:
        return "the length of episodes differs between seeds"
    env = system.description
    if any(agent.align is not None for agent in system.agents.values()) and not (
        env.endless or env.is_stream
    ):
        return "agents are aligned to messages, and episodes end at different steps in different seeds"
    if any(len(agent.learner.network.input_shape) > 1 for agent in system.agents.values()):
        return "convolutions of several seeds take longer together than one after the other"
    return alone[0] if alone else None


class Union:
    """Systems of one scenario, each with a seed of its own, as one `system`."""

    def __init__(self, systems: Sequence[System]) -> None:
        self.systems = list(systems)
        agents: dict[str, Agent] = {}
        channels: dict[str, Channel] = {}
        groups: list[LearningGroup] = []
        for replica, system in enumerate(systems):
            for name, agent in system.agents.items():
                own_name = named(name, replica)
                align = None if agent.align is None else named(agent.align, replica)
                agents[own_name] = replace(
                    agent, name=own_name, incoming=[], outgoing=[], align=align, members=()
                )
            for name, channel in system.channels.items():
                own = channels[named(name, replica)] = replace(
                    channel,
                    name=named(name, replica),
                    sender=named(channel.sender, replica),
                    receiver=named(channel.receiver, replica),
                    gradient=replace(channel.gradient),
                    input=replace(channel.input, examples=[]),
                    members=(),
                )
                connect(own, agents)
            for group in system.groups:
                members = tuple(named(name, replica) for name in group.members)
                groups.append(LearningGroup(members, group.windows, late=group.late))
        waves = [
            [
                tuple(named(name, replica) for name in call)
                for replica, wave in enumerate(own)
                for call in wave
            ]
            for own in zip(*(system.schedule.waves for system in systems), strict=True)
        ]
        clocks = {name: agent.clock for name, agent in agents.items()}
        each: list[dict[str, Agent | Channel]] = [{**system.agents, **system.channels} for system in systems]
        numbers = {name: tuple(values_of(parts[name]) for parts in each) for name in each[0]}
        self.divergence = ReplicaDivergence([system.on_divergence for system in systems])
        self.system = replace(
            systems[0],
            agents=agents,
            channels=channels,
            groups=groups,
            schedule=Schedule(clocks, waves),
            on_divergence=self.divergence,
            episode=None,
            replicas=len(systems),
            replica_of={name: replica_of(name) for name in agents},
            hyperparameters={
                named(name, i): own for name, own in numbers.items() for i in range(len(systems))
            },
        )

    def take_values(self, replica: int, source: System) -> None:
        """Give one of the systems, and the union, the hyperparameters of another system of the same structure."""
        own, union = self.systems[replica], self.system
        for name, agent in source.agents.items():
            take_values(own.agents[name], agent)
            take_values(union.agents[named(name, replica)], agent)
        for name, channel in source.channels.items():
            take_values(own.channels[name], channel)
            take_values(union.channels[named(name, replica)], channel)

    def exchange(self, *, to_union: bool) -> None:
        """Bring the union up to what the systems have become, or these up to what the union has."""
        union, groups = self.system, iter(self.system.groups)
        for replica, system in enumerate(self.systems):
            for name, agent in system.agents.items():
                pair = (agent, union.agents[named(name, replica)])
                source, target = pair if to_union else pair[::-1]
                target.action, target.trail = source.action, source.trail

            def called(name: str, replica: int = replica) -> str:
                return named(name, replica) if to_union else bare(name)

            for own in system.groups:
                joint = next(groups)
                old, new = (own, joint) if to_union else (joint, own)
                new.window = _renamed(old.window, called)
                new.past = [_renamed(window, called) for window in old.past]


def _renamed(window: Window, called: Callable[[str], str]) -> Window:
    leaves = {key: replace(read, channel=called(read.channel)) for key, read in window.leaves.items()}
    renamed = dict(zip(window.leaves.values(), leaves.values(), strict=True))

    def read_of(read: Read) -> Read:
        return renamed.get(read) or replace(read, channel=called(read.channel))

    def tick_of(tick: Tick) -> Tick:
        memory = None if tick.memory is None else read_of(tick.memory)
        sampled = {called(name): message for name, message in tick.sampled.items()}
        reads = [read_of(read) for read in tick.reads]
        return replace(tick, agent=called(tick.agent), reads=reads, memory=memory, sampled=sampled)

    return Window(
        window.number,
        {called(name): buffers for name, buffers in window.start.items()},
        [[tick_of(tick) for tick in call] for call in window.calls],
        [(called(name), message) for name, message in window.sent],
        leaves={(called(name), stamp, tick): read for (name, stamp, tick), read in leaves.items()},
    )
