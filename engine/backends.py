"""Backends, which take the steps of a simulation: the stacked engine does, another can be given as a function; and a step, taken by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from antiphon.base.errors import ScenarioError, named, suggest
from antiphon.engine.build.stacking import stack
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.metrics.report_by_agent import AgentReport, MeanAccumulator
from antiphon.engine.native.networks import use_kernel
from antiphon.engine.stacked import Stacked
from antiphon.engine.state.stacks import Merger, split_state
from antiphon.engine.state.state_dict import (
    load_messages,
    messages,
    restore_parameters,
    snapshot,
    stacked_parts,
)
from antiphon.nets.mask import ALL
from antiphon.nets.native.compiled_kernel import kernel

BACKENDS = ("cohort", "native")


class StackedBackend(Engine):
    """The stacked engine as a backend of `Simulation`: with the state of its stacks by agent and channel.

    Args:
        base: The system as built, one agent at a time. Its parameters become views of the stacked ones.
        *other_seeds: The systems of other seeds of its scenario (`reason_apart`), computed as one with it.
        stacked: Whether agents of one kind are computed as one; else every stack is of one.
        part: The part of it that is run; None: all of it.
        native: Whether the native kernel computes the stacks that it can.
    """

    def __init__(
        self,
        base: System,
        *other_seeds: System,
        stacked: bool = True,
        part: System | None = None,
        native: bool = False,
    ) -> None:
        self.name = "native" if native else "cohort"
        bases = (part or base, *other_seeds)
        system = stack(base, *other_seeds, part=part) if stacked else bases[0]
        super().__init__(system, bases)
        self.stacked = Stacked(bases[0], system)
        self._has_stacks = system is not bases[0]
        self.stale = self._has_stacks
        """Whether the single agents and channels are behind the stacks."""
        if native:
            use_kernel(self.system)
        if self.system.device.type == "cuda":
            self.moving.check_later()

    def tick(self, step: int, step_signals: StepSignals) -> Action | None:
        with named(f"step {step + 1}"):
            self.stale = self._has_stacks
            return super().tick(step, step_signals)

    def learn(self, step: int, ends: EpisodeEnds, *, watch: Watch = False) -> StepReport:
        self.stale = self._has_stacks  # again: the environment may have read the single agents
        with named(f"step {step + 1}"):
            return super().learn(step, ends, watch=watch)

    def restore_statistics(self) -> None:
        """Put all running statistics back to what they were before the step."""
        self.moving.statistics.restore()

    def synchronize(self) -> None:
        self.moving.synchronize()

    def move_on(self) -> None:
        """Note that the stacks have changed: single agents and channels are behind them, where there are any."""
        self.stale = self._has_stacks

    def per_agent(self) -> System:
        """The agents and channels one by one, as views of the stacks' rows: made once a step, when they are read."""
        if self.stale:
            for stack_part in stacked_parts(self.system):
                stack_part.write_members()
            for base, saved in zip(
                self.single_systems, split_state(self.system, self.single_systems), strict=True
            ):
                load_messages(base, saved)
            self.stale = False
        return self.stacked.single_system

    def state_dict(self) -> dict[str, Any]:
        """Return the state of everything but the environment, by agent and channel, without copying a tensor."""
        return snapshot(self.per_agent())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of the same scenario, of any backend; its tensors are used as they are, so hand in copies."""
        self._load([restore_parameters(self.stacked.single_system, state)])

    def load_members(self) -> None:
        """Read the state of the single agents and channels into their stacks, and replay open windows."""
        self._load([messages(base) for base in self.single_systems])

    def _load(self, states: Sequence[dict[str, Any]]) -> None:
        """Load messages and windows of each seed by agent and channel, whose parameters have been loaded."""
        self.move_on()
        if self.stale:
            for stack_part in stacked_parts(self.system):
                stack_part.read_members()
        saved = Merger(self.system, self.single_systems, states).merged() if self.stale else states[0]
        load_messages(self.system, saved)
        self.replay_open_windows()
        if self.moving.guard is not None:  # what it holds is not of this state
            self.moving.check_later()

    def replay_open_windows(self) -> None:
        """Compute open windows again, with the present parameters (semantics 15)."""
        for group in self.system.groups:
            self.forward_pass.replay(group.window)


BackendFactory = Callable[[System], StackedBackend]
"""Makes what takes the steps of a system as built, in place of the stacked engine."""


def backend_of(chosen: str | BackendFactory, system: System, *, stacked: bool = True) -> StackedBackend:
    """Return what runs a system.

    Args:
        chosen: `cohort`: agents of one kind are computed as one. `native`: so too, by the native kernel where it can; without
            a compiler this is `cohort`. Or what makes another backend.
        system: As built.
        stacked: Whether agents are stacked by `cohort` and `native`.
    """
    if not isinstance(chosen, str):
        return chosen(system)
    name = checked_backend(chosen)
    if name == "native" and any(agent.learner.bf16 for agent in system.agents.values()):
        raise ScenarioError("training.precision: the native kernel computes in float32; use backend cohort")
    return StackedBackend(system, stacked=stacked, native=name == "native")


def checked_backend(name: str) -> str:
    """Return the name of the backend that computes: `cohort` for `native` on a machine without a compiler."""
    if name not in BACKENDS:
        raise ScenarioError(f"backend: there is no '{name}'{suggest(name, BACKENDS)}")
    return "cohort" if name == "native" and kernel() is None else name


# --- a step, in the order that all have in which steps are taken: here, in parts, of several seeds, recorded ---------------


class Surroundings(Protocol):
    """What a step is taken in: an environment, or a record of one."""

    @property
    def step_signals(self) -> StepSignals:
        """The signals of the present step."""

    @property
    def episode_length(self) -> int | None:
        """Steps of the present episode; None: it is not known."""

    def advance(self, action: Action | None) -> EpisodeEnds:
        """Complete the present signals, make those of the next step, and return which episodes ended."""


def step_once(
    backend: StackedBackend,
    world: Surroundings,
    means: MeanAccumulator,
    step: int,
    *,
    confirm: Callable[[], None] = lambda: None,
    watch: Watch = False,
) -> tuple[EpisodeEnds, AgentReport]:
    """Take a step (semantics 13), begin the next episode, add the losses, and return which episodes ended and what was learned.

    Args:
        confirm: Called once it is learned from, before anything of it is counted: what it raises leaves episode and sums as they were.
        watch: Whether, or of which channels, predictions are kept; it changes no number.
    """
    ends = world.advance(backend.tick(step, world.step_signals))
    stacks = backend.learn(step, ends, watch=watch)
    confirm()
    if ends.ended is ALL:
        backend.system.schedule.begin_episode(world.step_signals.step, world.episode_length)
    learned = AgentReport(stacks, backend.stacked)
    means.add(learned)
    return ends, learned
