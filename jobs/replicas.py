"""Several seeds of one scenario in one program: replicas of its agents, stacked together, each in its own environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from antiphon.engine.backends import StackedBackend
from antiphon.engine.build.join_replicas import Union, bare, named, replica_of
from antiphon.engine.environment import EnvironmentRunner, JointRunner
from antiphon.engine.heart.message import EpisodeEnds
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.stacked import Stacked
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Losses, PredictorUpdate, StepReport, Update
from antiphon.engine.metrics.report_by_agent import AgentReport, MeanAccumulator
from antiphon.engine.state.hyperparameters import read_members
from antiphon.engine.state.in_place import InPlaceChanges
from antiphon.engine.state.state_dict import restore, snapshot

T = TypeVar("T")
Places = dict[tuple[str, ...], tuple[tuple[str, ...], list[int] | slice]]
"""By the members of a stack: those of one replica, by their own names, and their places."""


class ReplicatedEngine:
    """Steps the systems of several seeds as one, and their environments.

    Args:
        systems: Of one scenario but for hyperparameters, each built with a seed of its own.
        runners: Of their environments.
        begun: Whether they are at a later step than the first.

    Attributes:
        world: All environments.
        means: Means of losses and metrics of all replicas.
    """

    def __init__(
        self, systems: Sequence[System], runners: Sequence[EnvironmentRunner], *, begun: bool = False
    ) -> None:
        self.union = Union(systems)
        self.engine = StackedBackend(self.union.system)
        self.world = JointRunner(runners)
        self.means = MeanAccumulator(self.union.system)
        self.loaded = begun
        """Whether a state or hyperparameters have been loaded into a replica since the last step."""
        self._stale = not begun

    def step(self, step: int, *, watch: Watch = False) -> tuple[EpisodeEnds, AgentReport]:
        """Take a step of all replicas; one that diverges is stopped, and the others continue."""
        if self.loaded:
            self.union.exchange(to_union=True)
            for agents in self.engine.system.agents.values():
                read_members(agents)
            for channels in self.engine.system.channels.values():
                read_members(channels)
            self.engine.load_members()
            self.loaded = False
        self._stale = True
        self.engine.tick(step, self.world.step_signals)
        ends = self.world.advance(self.engine.action)
        self.engine.cut(step, ends)
        return ends, AgentReport(self.engine.learn(step, watch=watch), self.engine.stacked)

    def share(self) -> list[dict[str, Any]]:
        """Bring the runners of the environments up to date, and return the sums of each replica's means."""
        self.world.share()
        sums: list[dict[str, Any]] = [{} for _ in self.union.systems]
        for name, own in self.means.state_dict().items():
            sums[replica_of(name)][bare(name)] = own
        return sums

    def join(self, sums: Sequence[Mapping[str, Any]]) -> None:
        """Take over what the runners of the environments hold, and the sums of each replica's means."""
        self.world.join()
        each = ((named(name, n), value) for n, own in enumerate(sums) for name, value in own.items())
        self.means.load_state_dict(dict(each))

    def synchronize(self) -> None:
        """Write the state of the stacks to the systems of the replicas, once a step."""
        if self._stale:
            self.engine.per_agent()
            self.union.exchange(to_union=False)
            self._stale = False


class Replica:
    """The backend of one seed's simulation, whose steps are taken by all seeds together.

    Args:
        all_replicas: What takes them.
        index: Which replica it is, from 0.
    """

    name = "cohort"

    def __init__(self, all_replicas: ReplicatedEngine, index: int) -> None:
        self.all_replicas = all_replicas
        self.index = index
        self._own = all_replicas.union.systems[index]
        self.stacked = Stacked(self._own, self._own)
        self._places: Places = {}

    @property
    def system(self) -> System:
        """Its own agents and channels, up to date."""
        self.all_replicas.synchronize()
        return self._own

    def per_agent(self) -> System:
        """Its own agents and channels, up to date."""
        return self.system

    @property
    def in_place(self) -> InPlaceChanges:
        """Those of all replicas, whose parameters are its own."""
        return self.all_replicas.engine.in_place

    def synchronize(self) -> None:
        """Nothing to wait for: every step of replicas is checked at once."""

    def state_dict(self) -> dict[str, Any]:
        """See `Backend.state_dict`."""
        return snapshot(self.system)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Backend.load_state_dict`."""
        self.all_replicas.synchronize()
        restore(self._own, state)
        self.all_replicas.loaded = True

    def take_values(self, source: System) -> None:
        """Take the hyperparameters of another system of the same structure, from the next step on."""
        self.all_replicas.synchronize()
        self.all_replicas.union.take_values(self.index, source)
        self.all_replicas.loaded = True

    def report(self, everything: AgentReport) -> ReplicaReport:
        """The replica's part of what was learned at a step."""
        return ReplicaReport(everything, self.index, self._places, self.stacked)


class ReplicaReport(AgentReport):
    """What one replica learned at a step, by the names of its own agents and channels."""

    def __init__(self, everything: AgentReport, index: int, places: Places, stacked: Stacked) -> None:
        self._everything, self._index, self._places = everything, index, places
        self._stacked = stacked

    @property
    def stacks(self) -> StepReport:  # type: ignore[override]
        """By agent and channel: a replica's stacks are of one."""
        return StepReport(self.updates, self.predictor_updates, self.input_updates)

    def _is_own(self, name: str) -> bool:
        return name.endswith(named("", self._index))

    def _own(self, by_name: Mapping[str, T]) -> dict[str, T]:
        """What is of the replica's agents or channels, by the names in its own system."""
        return {bare(name): one for name, one in by_name.items() if self._is_own(name)}

    @cached_property
    def updates(self) -> list[Update]:
        """By learning group."""
        found = []
        for update in self._everything.updates:
            if self._is_own(update.group.members[0]):
                own = Update(self._stacked.base.group_of[bare(update.group.members[0])], update.window)
                own.gradients, own.injected = self._own(update.gradients), self._own(update.injected)
                own.window_loss.losses = self._own(update.window_loss.losses)
                found.append(own)
        return found

    @cached_property
    def predictor_updates(self) -> dict[str, PredictorUpdate]:
        """By channel."""
        return self._own(self._everything.predictor_updates)

    @cached_property
    def input_updates(self) -> dict[str, PredictorUpdate]:
        """By channel."""
        return self._own(self._everything.input_updates)

    def losses(self) -> Iterator[tuple[tuple[str, ...], Losses]]:
        """Yield the objectives' losses of its own members of each stack."""
        for names, losses in self._everything.losses():
            if names not in self._places:
                mine = [n for n, name in enumerate(names) if self._is_own(name)]
                in_a_row = slice(mine[0], mine[-1] + 1) if mine else slice(0)
                whole = len(mine) == in_a_row.stop - in_a_row.start
                self._places[names] = tuple(bare(names[n]) for n in mine), in_a_row if whole else mine
            own, places = self._places[names]
            if own:
                yield own, losses.of(places)
