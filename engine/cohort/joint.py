"""Joint runs: several seeds of one scenario in one program, each with an environment of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from antiphon.engine.cohort.backend import Cohorts
from antiphon.engine.cohort.models import Models
from antiphon.engine.cohort.told import LossesByAgent, Told, losses_of
from antiphon.engine.cohort.union import Union, bare, named
from antiphon.engine.core.divergence import Divergence
from antiphon.engine.core.environment import EpisodeEnds
from antiphon.engine.core.signals import EnvMask, StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.step.losses import Losses
from antiphon.engine.step.predictors import Heard, PredictorUpdate
from antiphon.engine.step.report import StepReport, Update
from antiphon.engine.step.stepper import Reference
from antiphon.errors import ScenarioError

__all__ = ["Joint", "Share"]

Places = dict[tuple[str, ...], tuple[tuple[str, ...], slice | list[int]]]
"""By the agents of a cohort: those of one seed, by their own names, and their places."""
_WORLD = re.compile(r"@(\d+)")


class _Apart(Divergence):
    """Under `stop`, a seed that diverges stops by itself; the others go on."""

    def __init__(self, of: Sequence[Divergence]) -> None:
        super().__init__(of[0].quarantine, of[0].bound)
        self.each = of
        self.stopped: dict[int, str] = {}
        """What each seed that has stopped died of."""

    def report(self, step: int, line: str) -> None:
        found = _WORLD.search(line)
        world = int(found.group(1)) if found else 0
        line = _WORLD.sub("", line)
        if self.quarantine:
            self.each[world].events.append((step, line))
        else:
            self.stopped.setdefault(world, line)

    def note(self, step: int, line: str) -> None:
        found = _WORLD.search(line)
        self.each[int(found.group(1)) if found else 0].note(step, _WORLD.sub("", line))


class Joint(Cohorts):
    """Runs the systems of several seeds as one.

    Args:
        systems: Of one scenario.
    """

    def __init__(self, systems: Sequence[System]) -> None:
        self.divergence = _Apart([system.divergence for system in systems])
        self.union = Union(systems, self.divergence)
        super().__init__(self.union.system)
        self.changed = False
        self._silent: set[int] = set()
        self._held: dict[int, dict[str, Tensor]] = {}
        """Running statistics at the step's beginning, by bundled predictor (its identity)."""

    def shown(self) -> System:
        if self._stale:
            super().shown()
            self.union.part()
        return self.union.system

    def tick(self, step: int, step_signals: StepSignals) -> None:
        if self.changed:
            self.union.join()
            self.taken_over()
            self.changed = False
        self._held = {id(model): dict(model.buffers) for model in self._models()}
        super().tick(step, step_signals)

    def _models(self) -> Iterator[Models]:
        for bundle in self.lifted.bundles:
            for model in (bundle.predictor, bundle.input):
                if isinstance(model, Models):
                    yield model

    def look_later(self) -> None:
        """Somebody has to look at once: a seed that diverges is stopped, and the others go on."""

    def _apply(self, updates: list[Update], step: int) -> None:
        for world in self.divergence.stopped.keys() - self._silent:
            self._silence_world(world)
        super()._apply(updates, step)

    def _silence_world(self, world: int) -> None:
        """Nothing of a seed that has diverged moves any more."""
        self._silent.add(world)
        for cohort in self.lifted.cohorts:
            members = cohort.worlds.index == world
            cohort.silence(members)
            cohort.stack.put_back(members, self._before[cohort.name])
        for bundle in self.lifted.bundles:
            members = bundle.worlds.index == world
            for model in (bundle.predictor, bundle.input):
                if isinstance(model, Models) and model.buffers:
                    model.put_back(members, self._held[id(model)])
            bundle.disable(members.cpu())

    # --- several environments as one ----------------------------------------------------------------------

    def ends(self, ends: Sequence[EpisodeEnds]) -> EpisodeEnds:
        """Return what ended in any world."""
        return EpisodeEnds(self._lanes([e.ended for e in ends]), self._lanes([e.terminated for e in ends]))

    def _lanes(self, lanes: Sequence[EnvMask]) -> EnvMask:
        if not any(isinstance(one, Tensor) for one in lanes) and len(set(lanes)) == 1:
            return lanes[0]
        full = torch.ones(self.system.batch, dtype=torch.bool, device=self.system.device)
        return torch.cat([one if isinstance(one, Tensor) else full & one for one in lanes])


class Share(Reference):
    """The backend of one seed's simulation, whose steps are taken by all seeds together.

    Args:
        joint: What takes them.
        world: Which seed it is, from 0.
    """

    name = "cohort"

    def __init__(self, joint: Joint, world: int) -> None:
        super().__init__(joint.union.systems[world])
        self.joint = joint
        self.world = world
        self._places: Places = {}

    def shown(self) -> System:
        self.joint.shown()
        return self.system

    def taken_over(self) -> None:
        self.joint.changed = True

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Refuse: a step of one seed is a step of all.

        Raises:
            ScenarioError: Always.
        """
        raise ScenarioError(
            "step: this simulation is one of several seeds that go on together; step the seeds"
        )

    def told(self, learned: StepReport) -> StepReport:
        """Return what this seed learned of what all did."""
        assert isinstance(learned, Told)
        return _Own(learned, self.world, self._places)


class _Own(StepReport):
    """What one seed learned."""

    def __init__(self, told: Told, world: int, places: Places) -> None:
        self._told, self._world, self._places = told, world, places
        self.learners, self.hearers = {}, {}

    def _mine(self, name: str) -> bool:
        return name.endswith(named("", self._world))

    @cached_property
    def updates(self) -> list[Update]:  # type: ignore[override]
        """By unit."""
        found = []
        for update in self._told.updates:
            if self._mine(update.unit.members[0]):
                own = Update(update.unit, update.tape)
                own.gradients = {bare(name): g for name, g in update.gradients.items()}
                own.window_loss.losses = {bare(name): losses for name, losses in update.losses.items()}
                own.injected = {bare(name): rows for name, rows in update.injected.items()}
                found.append(own)
        return found

    @cached_property
    def predictor_updates(self) -> dict[str, PredictorUpdate]:  # type: ignore[override]
        """By channel."""
        return {
            bare(name): lesson for name, lesson in self._told.predictor_updates.items() if self._mine(name)
        }

    @cached_property
    def inputs(self) -> dict[str, Heard]:  # type: ignore[override]
        """By channel."""
        return {bare(name): heard for name, heard in self._told.inputs.items() if self._mine(name)}

    def losses(self) -> Iterator[tuple[tuple[str, ...], Losses]]:
        for names, losses in self._told.losses():
            if names not in self._places:
                mine = [n for n, name in enumerate(names) if self._mine(name)]
                in_a_row = slice(mine[0], mine[-1] + 1) if mine else slice(0)
                whole = len(mine) == in_a_row.stop - in_a_row.start
                self._places[names] = tuple(bare(names[n]) for n in mine), in_a_row if whole else mine
            own, places = self._places[names]
            if own:
                yield own, losses_of(losses, places)

    def by_agent(self) -> Mapping[str, Tensor]:
        return LossesByAgent(self)
