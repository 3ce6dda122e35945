"""The simulation: owns all state of a running scenario, steps it, forks it, saves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import torch

from antiphon.engine.build.builder import build
from antiphon.engine.build.devices import chosen_device
from antiphon.engine.build.weights import without_weights
from antiphon.engine.core.environment import EnvironmentRunner, with_own_env
from antiphon.engine.core.records import StepSignals
from antiphon.engine.core.rows import EnvMask
from antiphon.engine.core.system import System
from antiphon.engine.metrics.figures import write_figures
from antiphon.engine.metrics.inspection import Inspection
from antiphon.engine.metrics.recording import Recording
from antiphon.engine.planning.memory_estimate import MemoryGuard
from antiphon.engine.probes.value import write_value
from antiphon.engine.runs.observers import ProgressBar, StepCallback
from antiphon.engine.runs.run_writer import RunWriter, open_writer
from antiphon.engine.runs.trainer import Observer, Trainer
from antiphon.engine.state import checkpoint
from antiphon.engine.state.checkpoint import Saved, read_simulation, write_simulation
from antiphon.engine.state.compatibility import check_compatible
from antiphon.engine.step.backends import backend_of
from antiphon.engine.step.update import AgentReport, MeanAccumulator, StepReport
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.scenarios import Scenario, Template, load
from antiphon.telemetry.figures import Recorder

__all__ = ["Simulation", "StepInfo"]

StepInfo = dict[str, Any]
"""`step`, `ended` (which episodes ended) and `losses` ({agent: scalar tensor} of those that learned)."""


class Simulation(Inspection):
    """A scenario that runs.

    Args:
        scenario: A scenario, a template (resolved with its defaults), a library name or a YAML file.
        seed: Of everything that is drawn.
        device: Where the numbers live.
        dtype: Of all floats.
        logdir: A run directory to be written from the first step; None: nothing is written.
        threads: Of torch, in this process: small networks lose more to a second one than they gain.
        backend: `cohort` computes agents of one kind as one; `reference` is the specification, one agent at a time. They
            agree to rounding (1e-9 in float64).
        stacked: Whether `cohort` stacks anything; a probe looks at messages and tapes of single agents.

    Raises:
        ScenarioError: The scenario cannot be built; the line names the place.
        DataError: Its environment's data are missing or broken.
        RunError: `logdir` cannot be written.
        ResourceError: It needs more memory than there is; from a step too.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        logdir: str | Path | None = None,
        threads: int = 1,
        backend: str = "cohort",
        stacked: bool = True,
    ) -> None:
        self.threads, self._asked, self._stacked = threads, backend, stacked
        torch.set_num_threads(threads)
        if isinstance(scenario, str | Path):
            scenario = load(scenario)
        if isinstance(scenario, Template):
            scenario = scenario.resolve()
        self.scenario = scenario
        self.device, self.dtype = chosen_device(device), dtype
        self.recorders: list[Recorder] = []
        self.recordings: list[Recording] = []
        self._writer: RunWriter | None = None
        self._env = self._make(scenario.training.batch)
        try:
            self._begin(seed, logdir)
        except BaseException:
            self.close()
            raise

    def _begin(self, seed: int, logdir: str | Path | None) -> None:
        self._room = MemoryGuard(self.scenario, self._env.description, self.device, self.dtype)
        self._room.check()
        with self._room:
            self._start(seed)
        if self.scenario.telemetry.value is not None:
            self._env.state_dict()  # forks will need it: what keeps it to itself is refused now, not in mid-run
        if logdir is not None:
            self._writer = open_writer(self, Path(logdir))

    def _start(self, seed: int) -> None:
        self.seed = seed
        self.now = 0
        system = build(self.scenario, self._env.description, seed=seed, device=self.device, dtype=self.dtype)
        self.backend = backend_of(self._asked, system, stacked=self._stacked)
        self.learned = AgentReport(StepReport([], {}), self.backend.stacked)  # of the newest step
        self.world = EnvironmentRunner(self._env, system.signals(), seed)
        system.next_episode(0, self._env.episode_length)
        self.train_means = MeanAccumulator(system)
        self.diverged: str | None = None
        self.until = self.scenario.training.steps

    @property
    def system(self) -> System:
        """Its agents and channels, one by one: views of the stacks' rows, as they are now."""
        return self.backend.per_agent()

    # --- running -----------------------------------------------------------------------------------------

    def reset(self, seed: int | None = None) -> StepInfo:
        """Start again from step 0 with fresh parameters.

        Args:
            seed: None keeps the present one.
        """
        self._start(self.seed if seed is None else seed)
        return {"step": 0, "ended": False, "losses": {}}

    def step(self) -> StepInfo:
        """Take one environment step (semantics 13) and return what happened.

        Raises:
            DivergenceError: A loss or gradient was not finite. No parameter has been touched by this step, unless it was
                found out in the middle of a cohort that learns span by span: then those before have taken it.
        """
        step = self.now
        watch = self.watching(step)
        try:
            ended = self.advance(watch=watch)
        except (MemoryError, RuntimeError) as error:
            self._room.refuse(error)
            raise
        return self._recorded(step, ended, watch=watch)

    def record_step(self, step: int, learned: AgentReport, ended: EnvMask, *, watch: bool) -> StepInfo:
        """Record a step that was computed together with those of other seeds, and return what happened.

        Args:
            step: The step.
            learned: What was learned at it.
            ended: Which episodes ended.
            watch: Whether it is one whose figures are taken (`watching`).
        """
        self.learned = learned
        self.train_means.add(learned)
        self.now = step + 1
        return self._recorded(step, ended, watch=watch)

    def _recorded(self, step: int, ended: EnvMask, *, watch: bool) -> StepInfo:
        if watch:
            self.train_means.end_row()
            write_figures(self, step)
        valued = self.scenario.telemetry.value
        if self.recorders and valued is not None and (step + 1) % valued.every == 0:
            write_value(self, step)
        for recording in self.recordings:
            recording.take(self, step)
        return {"step": step, "ended": ended, "losses": self.learned.by_agent()}

    def advance(self, *, watch: bool = False) -> EnvMask:
        """Take one step and return which episodes ended; nothing is recorded.

        Args:
            watch: Whether what predictors said is kept in `learned`; it changes no number.
        """
        if self.diverged is not None:
            raise DivergenceError(self.diverged)
        step = self.now
        self.backend.tick(step, self.world.step_signals)
        ends = self.world.advance(self.backend.action)
        self.backend.cut(step, ends)  # known before anything learns
        try:
            self.learned = self.backend.learn(step, watch=watch)
            if (step + 1) % self.scenario.telemetry.every == 0 or step + 1 == self.until:
                self.synchronize()
        except DivergenceError as error:  # what was learned before stays as it was; the rest cannot go on
            self.backend.restore_statistics()
            self.diverged = str(error)
            raise
        if ends.ended is True:
            self.backend.system.next_episode(self.world.step_signals.step, self._env.episode_length)
        self.train_means.add(self.learned)
        self.now = step + 1
        return ends.ended

    def synchronize(self) -> None:
        """Wait for the device, where it checks gradients by itself (`Guard`): nothing else leaves a divergence unseen.

        Raises:
            DivergenceError: A loss or gradient was not finite at an earlier step, which the line names; no parameter
                has moved since.
        """
        if self.diverged is not None:
            return
        try:
            self.backend.synchronize()
        except DivergenceError as error:
            self.diverged = str(error)
            raise

    def steps(self, count: int) -> Iterator[StepInfo]:
        """Take `count` steps, one at a time."""
        return (self.step() for _ in range(count))

    def run(
        self,
        steps: int | None = None,
        *,
        episodes: int | None = None,
        seconds: float | None = None,
        on_step: Callable[[Simulation], None] | None = None,
    ) -> None:
        """Run for a while. Ctrl-C ends it after the present step; a second one at once.

        A `logdir` gets the files of a run from the command line: ten checkpoints on the way (the newest two are kept), a
        result at the end, and after an exception its reason in run.json. On a terminal, progress is shown.

        Args:
            steps: Environment steps; with nothing given, until `training.steps` have been done.
            episodes: Until so many episodes of the first environment have ended.
            seconds: At most so long, wall clock.
            on_step: Called after every step.

        Raises:
            DivergenceError: A loss or gradient was not finite; what was learned before is kept, also in `logdir`.
            ScenarioError: Episodes are asked for, and the environment's never end.
        """
        if steps is None and episodes is None and seconds is None:
            steps = max(0, self.scenario.training.steps - self.now)
        observers: list[Observer] = [ProgressBar(steps)]
        if on_step is not None:
            observers.append(StepCallback(on_step))
        if self._writer is not None:
            observers.append(self._writer)
        try:
            (outcome,) = Trainer([self], observers).run(steps, episodes=episodes, seconds=seconds)
        except ScenarioError as error:  # refused before it started
            if self._writer is not None and self._writer.running:
                self._writer.break_off(error)
            raise
        if outcome.error is not None:
            raise DivergenceError(outcome.error)
        self.redraw()

    def rerun_on(self, backend: str) -> None:
        """Change to another backend before the first step; ScenarioError if there is none of this name."""
        self._asked, self._stacked = backend, True
        self.backend = backend_of(backend, self.system)

    def leave_replicas(self, line: str) -> None:
        """Leave a run of several seeds, for it has diverged: keep what it is now, whatever the others do.

        It goes on to own an environment that nobody steps; the former one belongs to the caller.

        Args:
            line: What happened.
        """
        state = checkpoint.copy_tree({"env": self._env_state(), **self._own_state()})
        quiet: dict[str, list[str]] = {"silenced": [], "muted": [], "deaf": []}  # only in what it leaves
        state["system"]["quarantine"] = {**state["system"]["quarantine"], **quiet}
        kept = self.until, self.train_means, self.learned
        if state["env"] is not None:
            self.scenario = with_own_env(self.scenario, "a seed that stops needs one of its own")
            self._env = self._make(self.scenario.training.batch)
            self._asked, self._stacked = "cohort", False
            self._start(self.seed)
            self.load_state_dict(state)
        self.until, self.train_means, self.learned = kept
        self.diverged = line

    # --- forking and saving ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, without copying a tensor.

        Raises:
            RunError: The environment keeps its state to itself.
            DivergenceError: As of `synchronize`.
        """
        return {"env": self._env.state_dict(), **self._own_state()}

    def _own_state(self) -> dict[str, Any]:
        self.synchronize()
        return {
            "now": self.now,
            "seed": self.seed,
            "diverged": self.diverged,
            "present": dict(self.world.step_signals.signals),
            "elapsed": self.world.elapsed,
            "tally": self.train_means.state_dict(),
            "system": self.backend.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same scenario; open windows are replayed from their tapes.

        Raises:
            RunError: It is of another scenario; the line names the first difference, and nothing has changed.
            ResourceError: There is not enough memory for it.
        """
        try:
            check_compatible(self.system, self.world.step_signals.signals, state["system"], state["present"])
        except RunError as difference:
            raise self._refusal(state) or difference from None
        with self._room:
            self._take_over(state)

    def _refusal(self, state: dict[str, Any]) -> RunError | None:
        """Return the environment's own reason against a state, which names more than a shape; None: it has none."""
        if state["present"].keys() != self.world.step_signals.signals.keys():
            return None
        before = self._env.state_dict()
        try:
            self._env.load_state_dict(checkpoint.copy_tree(state["env"]))
        except RunError as error:
            return error
        finally:
            self._env.load_state_dict(before)
        return None

    def _take_over(self, state: dict[str, Any]) -> None:
        if state["seed"] != self.seed:
            self._start(state["seed"])
        state = checkpoint.copy_tree(state)
        self.now = state["now"]
        self._env.load_state_dict(state["env"])
        self.backend.load_state_dict(state["system"])
        self.world.step_signals = StepSignals(self.now, state["present"])
        self.world.elapsed = state["elapsed"]
        self.train_means.load_state_dict(state["tally"])
        self.diverged = state["diverged"]

    def load_saved(self, saved: Saved) -> None:
        """Take over the state of a checkpoint.

        Raises:
            RunError: It is of another scenario; the line names the checkpoint and the first difference.
            ResourceError: There is not enough memory for it.
        """
        try:
            self.load_state_dict(saved.state)
        except RunError as error:
            raise RunError(f"{saved.place}: {error}") from None

    @classmethod
    def _without_weights(cls, scenario: Scenario, **settings: Any) -> Self:
        """Return a simulation that is about to take over a state: pretrained weights are not looked for."""
        simulation = cls(without_weights(scenario), **settings)
        simulation.scenario = scenario
        return simulation

    def fork(self, backend: str | None = None, *, stacked: bool = True) -> Simulation:
        """Return a copy that goes on by itself, unrecorded.

        Args:
            backend: Of the copy; None: the same, or `cohort` where nothing is to be stacked.
            stacked: As of a new one.

        Raises:
            RunError: The environment has no `state_dict`.
            ScenarioError: It is an object that cannot be copied.
            DivergenceError: As of `synchronize`.
        """
        self.synchronize()
        scenario = with_own_env(self.scenario, "a fork needs one of its own")
        alike = {"seed": self.seed, "device": self.device, "dtype": self.dtype, "threads": self.threads}
        backend = backend or (self.backend.name if stacked else "cohort")
        twin = Simulation._without_weights(scenario, **alike, backend=backend, stacked=stacked)
        try:
            twin.load_state_dict(self.state_dict())
        except BaseException:
            twin.close()
            raise
        return twin

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint folder, whole or not at all, and return its path; RunError where it cannot be written.

        An environment that keeps its state to itself is left out: such a checkpoint gives weights, but no run.

        Raises:
            DivergenceError: As of `synchronize`; once it has been raised, the diverged simulation can be saved.
        """
        state = {"env": self._env_state(), **self._own_state()}
        return write_simulation(Path(path), self.scenario, self.dtype, state)

    def _env_state(self) -> dict[str, Any] | None:
        """The environment's state, or None where it keeps that to itself (somebody else's VectorEnv)."""
        try:
            return self._env.state_dict()
        except RunError:
            return None

    @classmethod
    def load(
        cls,
        path: str | Path,
        scenario: Scenario | None = None,
        *,
        device: torch.device | str = "cpu",
        threads: int = 1,
        backend: str = "cohort",
    ) -> Simulation:
        """Return the simulation of a checkpoint, to go on to the same bits.

        Args:
            path: A checkpoint folder, or a run directory (its newest checkpoint).
            scenario: Needed where the scenario holds Python objects.
            device: Where it shall run.
            threads: Of torch.
            backend: As of a new one.

        Raises:
            RunError: The checkpoint is missing, damaged, of another scenario, or needs its scenario.
            ResourceError: There is not enough memory for it.
        """
        saved = read_simulation(Path(path), scenario, device)
        settings = {"seed": saved.seed, "device": device, "dtype": saved.dtype, "threads": threads}
        simulation = cls._without_weights(saved.scenario, **settings, backend=backend)
        try:
            simulation.load_saved(saved)
        except BaseException:
            simulation.close()
            raise
        return simulation

    # --- telemetry ---------------------------------------------------------------------------------------

    def watching(self, step: int) -> bool:
        """Figures are taken at fixed steps: the first, every `telemetry.every`th, and the last of the run."""
        every = self.scenario.telemetry.every
        return bool(self.recorders) and (step == 0 or (step + 1) % every == 0 or step + 1 == self.until)

    def close(self) -> None:
        """Close recorders and environment; a second call does nothing. A run that is not over has been stopped."""
        if self._writer is not None and self._writer.running:
            self._writer.break_off()
        for recorder in self.recorders:
            recorder.close()
        self.recorders = []
        self._env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        if failure is not None and self._writer is not None and self._writer.running:
            self._writer.break_off(failure)
        self.close()
