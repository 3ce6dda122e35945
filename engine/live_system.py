"""A live system: a scenario's agents and channels in their environment, stepped, changed, forked and saved.

It knows no run directory, recorder, probe, evaluation or export: these take it as it is. How its steps are taken, here one by
one or elsewhere, is its `Executor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.files import given_path
from antiphon.base.memory import uncollected
from antiphon.base.problems import check_counts, checked_seed
from antiphon.base.spec import frozen_data
from antiphon.engine.backends import BackendFactory, StackedBackend, backend_of, checked_backend, step_once
from antiphon.engine.build.builder import build, without_weights
from antiphon.engine.environment import (
    EnvironmentRunner,
    environment_state,
    signals_read,
)
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.system import System
from antiphon.engine.inference.early_stopping import EarlyStopping
from antiphon.engine.metrics.newest import LogSteps, NewestMetrics
from antiphon.engine.metrics.report_by_agent import AgentReport, MeanAccumulator
from antiphon.engine.stacked import Stacked
from antiphon.engine.state import checkpoint
from antiphon.engine.state.changes import changed, take_values
from antiphon.engine.state.checkpoint import Saved, read_simulation, write_simulation
from antiphon.engine.state.compatibility import check_compatible
from antiphon.envs import registry
from antiphon.nets.devices import chosen_device
from antiphon.nets.mask import Mask
from antiphon.nets.plain_trees import from_tree, to_tree
from antiphon.nets.random import global_states, load_global_states
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.loading import as_scenario
from antiphon.telemetry.metrics import PartMetrics


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a scenario is computed; for the fields see `Simulation`."""

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    threads: int = 1
    backend: str | BackendFactory = "cohort"
    stacked: bool = True

    @classmethod
    def of(cls, *, seed: int = 0, device: torch.device | str = "cpu", **fields: Any) -> Self:
        """Return settings as a caller gives them; ScenarioError where one is none, or there is no such device or backend."""
        settings = cls(seed=checked_seed(seed), device=chosen_device(device), **fields)
        if settings.dtype not in (torch.float32, torch.float64):
            raise ScenarioError(f"dtype: {settings.dtype!r}; use torch.float32 or torch.float64")
        check_counts("Simulation", needed=True, threads=settings.threads)
        backend = checked_backend(settings.backend) if isinstance(settings.backend, str) else settings.backend
        return replace(settings, threads=int(settings.threads), backend=backend)

    def apply(self) -> None:
        """Set how torch computes in this process: threads, and convolutions of a GPU whose sums come in one order."""
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.deterministic = True

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of them, as far as a run that is asked for again has to have the same."""
        fields = {name: getattr(self, name) for name in ("threads", "backend", "stacked", "seed")}
        return {**fields, "device": str(self.device), "dtype": str(self.dtype).removeprefix("torch.")}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return the settings of a run as its run.json has them; RunError where this machine lacks what its backend needs."""
        if checked_backend(backend := facts["backend"]) != backend:
            fix = "install one, or go on with rounding of its own: Simulation.load(…, backend='cohort')"
            raise RunError(
                f"{facts['scenario']}: its backend '{backend}' needs a C++ compiler, which this machine lacks; {fix}"
            )
        return cls(
            seed=facts["seed"],
            device=chosen_device(facts["device"]),
            dtype=getattr(torch, facts["dtype"]),
            threads=facts["threads"],
            backend=backend,
            stacked=facts.get("stacked", True),
        )


class Holder(Protocol):
    """What holds a running scenario: a simulation."""

    @property
    def running(self) -> LiveSystem:
        """What runs."""


class Reader(Protocol):
    """What reads a running scenario between its steps: how far an executor may take them at once.

    Attributes:
        observed_at: Steps taken when something other than recorders reads the state next; 0: it is read after every step.
    """

    observed_at: float
    stopping: Callable[[], bool]

    @property
    def log_steps(self) -> LogSteps:
        """The steps at which metrics are recorded."""

    def observes(self, step: int) -> bool:
        """Whether something besides metrics reads the state after a step, or what was learned at it."""

    def measures(self, step: int) -> bool:
        """Whether metrics of a step are recorded, or kept for the next log entry."""


class Executor:
    """Takes steps of a running scenario several at once, or elsewhere; this one leaves each to the running scenario.

    Where steps are taken elsewhere, the running scenario is behind, and `gather` brings it up to date before its state is read.

    Attributes:
        stacks: Whether the running scenario's own system may be stacked.
    """

    stacks: bool = True

    @property
    def reached(self) -> int:
        """Steps taken by the newest that was taken elsewhere, which the running scenario may have yet to count; 0: none was."""
        return 0

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of it, so that the run can be resumed."""
        return {}

    def attach(self, running: LiveSystem) -> None:
        """Begin with a running scenario, at its present step; ScenarioError or RunError where it cannot be computed there."""

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask | None:
        """Take a step (semantics 13) and count it, or count one that has been taken, and return which episodes ended.

        None: the running scenario is to take it itself. After a DivergenceError, which it notes, nothing is counted.
        """
        return None

    def gather(self, running: LiveSystem) -> None:
        """Load the state that has been reached elsewhere; DivergenceError where it has diverged there."""

    def refresh(self, running: LiveSystem) -> None:
        """Bring the environment and the means of losses up to date."""

    def release(self, running: LiveSystem) -> None:
        """Note that anything may have been done to the running scenario, or will be before its next step."""

    # --- what is recorded of its steps -------------------------------------------------------------------

    def recorded(self, running: LiveSystem) -> tuple[Any, Sequence[PartMetrics]]:
        """Return what was recorded elsewhere of the newest step, with its sums of losses loaded, and the metrics of parts.

        The first is a `Row`; None: it was taken here.
        """
        del running
        return None, ()

    def metrics(self) -> dict[str, float]:
        """Return metrics of the run by name, beside those of what it computes; reading them changes none."""
        return {}

    def end_row(self) -> None:
        """Begin anew with metrics that are since the previous log entry: one has been written."""

    # --- state -------------------------------------------------------------------------------------------

    def continue_as(self, running: LiveSystem, scenario: Scenario, system: System, event: str | None) -> None:
        """Go on with another system of the same shapes, from the present state; ScenarioError where settings cannot change there."""
        running.rebuild(scenario, system, event)

    def state_dict(self, running: LiveSystem, *, complete: bool) -> dict[str, Any]:
        return running.own_state(complete=complete)

    def load_state_dict(self, running: LiveSystem, state: dict[str, Any]) -> None:
        running.load_own_state(state)

    def for_fork(self) -> Executor:
        return Executor()

    def close(self) -> None:
        """Close what computes; a second call does nothing."""


class LiveSystem:
    """A scenario's system in its environment, at a step.

    Args:
        executor: Takes its steps; None: they are taken here, one by one.

    Attributes:
        scenario: The resolved scenario, with all changes made since.
        settings: How it is computed, with the seed of the state that was loaded.
        now: Steps taken: an executor sets it to the step of the state that it loads or holds here.
        until: The step at which the run ends, which may be set; schedules keep `training.steps`.
        learned: Losses and updates of the newest step.
        newest: The newest metrics, since the last log entry, of what happens at some steps only.
        early_stopping: The best values of the evaluations during training; None: there are none.
        changes: Changes made by `set`: step, key and value, in order.
        diverged: The message of its divergence; None: it has not diverged.
        obstacle: Why it cannot take steps (its checkpoint has no state of the environment); None: it can.
        closed: Whether it takes no more steps, as it has been closed, or an error came within a step.

    Raises:
        ScenarioError: The scenario cannot be built, or not be computed like this; the message names the place.
        DataError: Data of the environment are missing or damaged.
    """

    def __init__(
        self,
        scenario: Scenario,
        settings: Settings,
        executor: Executor | None = None,
    ) -> None:
        self.settings = settings
        self.executor = executor or Executor()
        self.scenario = scenario
        self.changes: list[tuple[int, str, Any]] = []
        self.closed = False
        self._world: EnvironmentRunner | None = None
        settings.apply()
        self.env = registry.make(
            scenario.env, batch=scenario.training.batch, device=settings.device, dtype=settings.dtype
        )
        try:
            with uncollected():
                self.restart(settings)
        except BaseException:
            self.close()
            raise

    def restart(self, settings: Settings) -> None:
        """Begin at step 0 with settings of another seed or backend; the environment is reset."""
        self.settings = settings
        self.now = 0
        system = self._built(self.scenario)
        stacked = settings.stacked and self.executor.stacks
        self.backend: StackedBackend = backend_of(settings.backend, system, stacked=stacked)
        self.learned = AgentReport.empty(self.backend.stacked)
        self._world = EnvironmentRunner(self.env, signals_read(system), settings.seed)
        system.schedule.begin_episode(0, self.env.episode_length)
        self.begin_means()
        self.diverged: str | None = None
        self.obstacle: str | None = None
        self.until = self.scenario.training.steps
        evaluate = self.scenario.training.evaluate
        self.early_stopping = None if evaluate is None else EarlyStopping(evaluate)
        self.executor.attach(self)

    def execute_by(self, executor: Executor) -> None:
        """Have another executor take the steps from here on."""
        self.synchronize()
        self.executor.close()
        self.executor = executor
        executor.attach(self)

    def compute_by(self, backend: StackedBackend, world: EnvironmentRunner | None = None) -> None:
        """Go on with another backend and, if one is given, environment, at the step that this one is at."""
        self.backend = backend
        self._world = world or self._world
        self.learned = AgentReport.empty(backend.stacked)

    def restack(self) -> None:
        """Compute agents of one kind as one from here on, which the executor before did not allow."""
        state = checkpoint.copy_tree(self.backend.state_dict()) if self.now else None
        self.settings = replace(self.settings, stacked=True)
        self.compute_by(backend_of(self.settings.backend, self.system))
        if state is not None:
            self.backend.load_state_dict(state)

    def begin_means(self) -> None:
        """Begin the sums of losses and metrics anew, of what the backend computes."""
        system = self.backend.stacked.single_system
        self._means, self.newest = MeanAccumulator(system), NewestMetrics(system)

    # --- what it is --------------------------------------------------------------------------------------

    @property
    def world(self) -> EnvironmentRunner:
        self.executor.refresh(self)
        assert self._world is not None
        return self._world

    @property
    def train_means(self) -> MeanAccumulator:
        """Means of losses and metrics since the last log entry."""
        self.executor.refresh(self)
        return self._means

    @property
    def system(self) -> System:
        """Its agents and channels, one by one: views of the stacks' rows, as they are now."""
        return self.backend.per_agent()

    @property
    def evaluated(self) -> Stacked:
        """What is run forward: the stacks, if they are of this simulation alone; else its single agents."""
        stacked = self.backend.stacked
        return stacked if stacked.system.seed_count == 1 else Stacked(self.system, self.system)

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def signals(self) -> dict[str, Tensor]:
        """The signals of the environment at the present step by name, [batch, …]: observations and targets."""
        return dict(self.world.step_signals.signals)

    @property
    def epoch(self) -> float | None:
        """Epochs so far, 1.5 in the middle of the second; None: the environment has no epochs."""
        epoch = self.env.epoch_at(self.now)
        return None if epoch is None else float(epoch)

    def steps_of_epochs(self, epochs: float) -> int:
        """Return the steps of so many more passes over the examples; ScenarioError where the environment has no epochs."""
        now = self.env.epoch_at(self.now)
        if now is None:
            raise ScenarioError(f"run: epochs={epochs}, but the environment has no epochs; give steps")
        if not 0 <= epochs < math.inf:
            raise ScenarioError(f"run: epochs={epochs}; must be a finite number, at least 0")
        return math.ceil(self.env.step_at(now + Fraction(str(float(epochs))))) - self.now

    # --- stepping ----------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise RunError if it has been closed, or an error came within a step."""
        if self.closed:
            raise RunError(
                "simulation: has been closed, or an error came within a step, which some agents may have taken and others "
                "not; create a new one, or load a checkpoint"
            )

    def check_continues(self) -> None:
        """Raise RunError if it is of a checkpoint from which no step can follow."""
        if self.obstacle is not None:
            raise RunError(self.obstacle)

    def advance(self, reader: Reader | None = None, *, watch: Watch = False) -> Mask:
        """Take one step, here or by the executor, and return which episodes ended; nothing is recorded.

        Args:
            reader: What reads it between steps; None: everything is read after every step.
            watch: Whether, or of which channels, predictions are kept in `learned`; it changes no number.

        A step that raises DivergenceError has changed no parameter.
        """
        if self.diverged is not None:
            raise DivergenceError(self.diverged)
        self.check_continues()
        # What the step before has left is as large as the gradients and messages.
        self.learned = AgentReport.empty(self.backend.stacked)
        try:
            ended = self.executor.advance(self, reader, watch)
            return self.own_step(watch=watch) if ended is None else ended
        except DivergenceError as error:
            self.diverge(str(error))
            raise

    def own_step(self, *, watch: Watch) -> Mask:
        assert self._world is not None
        try:
            ends, learned = step_once(
                self.backend,
                self._world,
                self._means,
                self.now,
                confirm=self._wait_where_read,
                watch=watch,
            )
            self.count(learned)
        except DivergenceError:  # what was learned before stays as it was; the rest cannot go on
            self.backend.restore_statistics()
            raise
        except BaseException:
            self.closed = True
            raise
        return ends.ended

    def _wait_where_read(self) -> None:
        if (self.now + 1) % self.scenario.telemetry.period == 0 or self.now + 1 == self.until:
            self.backend.synchronize()

    def count(self, learned: AgentReport | None = None) -> None:
        """Count a step that has been taken; `learned`: at it, None: nothing that is known here."""
        self.learned = AgentReport.empty(self.backend.stacked) if learned is None else learned
        self.now += 1

    def synchronize(self) -> None:
        """Take over what was computed elsewhere, and wait for the device: nothing else leaves a divergence unseen.

        DivergenceError names an earlier step, since which no parameter has moved.
        """
        try:
            self.executor.gather(self)
            if self.diverged is None:
                self.backend.synchronize()
        except DivergenceError as error:
            self.diverge(str(error))
            raise

    def diverge(self, line: str) -> None:
        """Note how it ended; nothing was learned at the step that diverged, whoever has repeated the steps before it."""
        self.diverged, self.learned = line, AgentReport.empty(self.backend.stacked)

    # --- changing ----------------------------------------------------------------------------------------

    def set(self, changes: Sequence[tuple[str, Any]], event: str) -> None:
        """Change settings of the scenario at once, with `event` as the line of its events. See `Simulation.set`."""
        self.check_open()
        self.synchronize()
        scenario = changed(self.scenario, changes)
        self.executor.continue_as(self, scenario, self._built(without_weights(scenario)), event)
        self.changes += [(self.now, key, frozen_data(value)) for key, value in changes]

    def rebuild(self, scenario: Scenario, system: System, event: str | None = None) -> None:
        """Go on with another system of the same shapes, from the present state; after a RunError nothing has changed."""
        state = self.backend.state_dict()
        signals = self.world.step_signals.signals
        fix = "a kind of the scenario was registered again since; register the former one, or make a new simulation"
        check_compatible(system, signals, state, signals, fix=fix)
        events = [*state.pop("events"), *([] if event is None else [[self.now, event]])]
        state = {**checkpoint.copy_tree(state), "events": events}  # which grow with every change
        means, newest = self.train_means.state_dict(), self.newest.state_dict()
        self.scenario = scenario
        stacked = self.settings.stacked and self.executor.stacks
        # what was learned at the newest step is of other stacks
        self.compute_by(backend_of(self.settings.backend, system, stacked=stacked))
        self.backend.load_state_dict(state)
        self.begin_means()
        self._means.load_state_dict(means)
        self.newest.load_state_dict(newest)

    def take_values(self, scenario: Scenario, system: System, event: str | None) -> None:
        """Go on with the hyperparameters of another system, in place; `event`: one line for its events."""
        current = self.system
        for name, agent in system.agents.items():
            take_values(current.agents[name], agent)
        for name, channel in system.channels.items():
            take_values(current.channels[name], channel)
        self.scenario = scenario
        if event is not None:
            current.events.append((self.now, event))

    def _built(self, scenario: Scenario) -> System:
        how = self.settings
        return build(scenario, self.env.description, seed=how.seed, device=how.device, dtype=how.dtype)

    def begin_again(self, now: int) -> None:
        """Forget a divergence, and what was measured before it; the run goes on at a step."""
        self.now, self.diverged = now, None
        self.begin_means()

    # --- forking and saving ------------------------------------------------------------------------------

    def state_dict(self, *, complete: bool = True) -> dict[str, Any]:
        """Return the state, without copying a tensor.

        Args:
            complete: Whether an environment that keeps its state to itself is an error; else its state is None.
        """
        self.check_open()
        self.synchronize()
        return self.executor.state_dict(self, complete=complete)

    def own_state(self, *, complete: bool) -> dict[str, Any]:
        return {
            **environment_state(self.env, complete=complete),
            "now": self.now,
            "seed": self.seed,
            "diverged": self.diverged,
            **self.world.state_dict(),
            "means": self.train_means.state_dict(),
            **({"newest": newest} if (newest := self.newest.state_dict()) else {}),
            "system": self.backend.state_dict(),
            **({} if self.early_stopping is None else self.early_stopping.state_dict()),
            **({"changes": [list(change) for change in self.changes]} if self.changes else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same scenario, else RunError, and nothing has changed; open windows are replayed."""
        self.executor.load_state_dict(self, state)

    def load_own_state(self, state: dict[str, Any]) -> None:
        scenario, system = self.scenario, self.system
        changes = [(step, key, value) for step, key, value in state.get("changes", self.changes)]
        try:
            if changes != self.changes:
                scenario = changed(scenario, [(key, value) for _, key, value in changes])
            if scenario != self.scenario:
                system = self._built(without_weights(scenario))
            check_compatible(system, self.world.step_signals.signals, state["system"], state["present"])
            if system is not self.system:
                self.executor.continue_as(self, scenario, system, None)
        except (RunError, ScenarioError) as difference:
            raise RunError(str(difference)) from None
        self.changes = changes
        if state["seed"] != self.seed:
            self.restart(replace(self.settings, seed=state["seed"]))
        state = checkpoint.copy_tree(state)
        self.now = state["now"]
        # a checkpoint without it: what is learned can be used, and nothing follows
        if state["env"] is None:
            self.world.reset(self.seed)
        else:
            self.env.load_state_dict(from_tree(state["env"]))
        self.backend.load_state_dict(state["system"])
        self.world.load_state_dict(state)
        self.train_means.load_state_dict(state["means"])
        self.newest.load_state_dict(state.get("newest", {}))
        if self.early_stopping is not None:
            self.early_stopping.load_state_dict(state)
        self.diverged = state["diverged"]

    def load_saved(self, saved: Saved) -> None:
        """Take over the state of a checkpoint; one without the environment's can be evaluated and exported only."""
        try:
            self.load_state_dict(saved.state)
        except RunError as error:
            raise RunError(f"{saved.path}: {error}") from None
        load_global_states(from_tree(saved.state["random"]))
        self.obstacle = saved.obstacle

    @classmethod
    def restored(
        cls,
        scenario: Scenario,
        settings: Settings,
        restore: Callable[[LiveSystem], None],
        executor: Executor | None = None,
    ) -> Self:
        """Return one that takes over a state: pretrained weights are not looked for."""
        running = cls(without_weights(scenario), settings, executor)
        running.scenario = scenario
        try:
            restore(running)
        except BaseException:
            running.close()
            raise
        return running

    def fork(self, backend: str | BackendFactory | None = None, *, stacked: bool = True) -> Self:
        """Return an independent copy: see `Simulation.fork`."""
        self.synchronize()
        executor = self.executor.for_fork()
        settings = self.settings
        if executor.stacks:
            backend = backend or (settings.backend if stacked else "cohort")
            settings = replace(settings, backend=backend, stacked=stacked)
        return self.restored(
            self.scenario, settings, lambda twin: twin.load_state_dict(self.state_dict()), executor
        )

    def save(self, path: str | Path, sizes: Mapping[str, int] | None = None) -> Path:
        """Write a checkpoint folder: see `Simulation.save`; `sizes`: bytes of the files of its run that grow."""
        state = {**self.state_dict(complete=False), "random": to_tree(global_states())}
        return write_simulation(given_path(path), self.scenario, self.settings.dtype, state, sizes)

    def close(self) -> None:
        """Close what computes the steps, and the environment; a second call does nothing."""
        self.closed = True
        with ExitStack() as closing:
            closing.callback(self.env.close)
            closing.callback(self.executor.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def running_of_saved(saved: Saved, settings: Settings, executor: Executor | None = None) -> LiveSystem:
    """Return what runs at the state of a checkpoint, with its seed and type; the other settings may differ."""
    settings = replace(settings, seed=saved.seed, dtype=saved.dtype)
    return LiveSystem.restored(saved.scenario, settings, lambda running: running.load_saved(saved), executor)


def loaded(
    path: str | Path,
    scenario: Scenario | Template | str | Path | None = None,
    settings: Settings | None = None,
) -> LiveSystem:
    """Return what runs at a checkpoint: see `Simulation.load`."""
    settings = settings or Settings()
    scenario_given = None if scenario is None else as_scenario(scenario)
    saved = read_simulation(given_path(path), scenario_given, settings.device)
    return running_of_saved(saved, settings)
