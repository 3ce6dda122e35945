"""The simulation: a running scenario with its metrics, run directory, run loop and probes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import networkx as nx
import torch

from antiphon.base.errors import DivergenceError, RunError, ScenarioError, ScenarioWarning
from antiphon.base.files import fitting, given_path
from antiphon.base.memory import uncollected
from antiphon.base.problems import show_value
from antiphon.base.progress import hidden
from antiphon.base.signals import Interrupted, deliver
from antiphon.engine.backends import BackendFactory, checked_backend
from antiphon.engine.base_simulation import BaseSimulation, StepInfo, check_continues, check_own_loop
from antiphon.engine.build.builder import chosen_device, without_weights
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.environment import steps_of_epochs
from antiphon.engine.handles import AgentHandle, ChannelHandle, Named, Recording
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.inference.policy import Policy
from antiphon.engine.metrics.figures import (
    channel_figures,
    keep_figures,
    live_graph,
    write_figures,
    write_validation,
)
from antiphon.engine.metrics.report import AgentReport
from antiphon.engine.parts.automatic_delay import with_chosen_delay
from antiphon.engine.parts.coordinator import Coordinator
from antiphon.engine.parts.placement import check_placement
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.planning.advice import advice_on_a_run
from antiphon.engine.probes.truth import Probe, true_gradients
from antiphon.engine.probes.value import Values, value, write_value
from antiphon.engine.runs.directory import RunDirectory, check_exist, check_free, is_free
from antiphon.engine.runs.observers import Callbacks, RunProgress
from antiphon.engine.runs.recorded_context import recorded_context
from antiphon.engine.runs.run_loop import Observer, RunLoop, check_limit
from antiphon.engine.runs.run_writer import RunWriter, open_writer
from antiphon.engine.state.checkpoint import read_simulation
from antiphon.engine.state.compatibility import check_same_scenario, with_saved_delays
from antiphon.engine.state.described_scenario import described_scenario
from antiphon.engine.state.weights import TakenWeights, load_weights
from antiphon.nets.isolation.own_context import in_own_context, own_context
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.document import as_scenario
from antiphon.telemetry.csv_files import read_figures
from antiphon.telemetry.history import History

if TYPE_CHECKING:
    from antiphon.engine.ray.ray_parts import RayParts

Resumed = TypeVar("Resumed", bound="Simulation")


class Simulation(BaseSimulation):
    """A running scenario.

    Args:
        scenario: A scenario, a template (resolved with its defaults), a library name or a YAML file.
        seed: Seed of all random numbers.
        device: The device of all tensors.
        dtype: The type of all floating-point tensors.
        logdir: The run directory, written from the first step on; None: nothing is written.
        exist: What to do if `logdir` already exists and is not empty: `number` writes to the first free of logdir-2, …;
            `overwrite` removes the existing run, `resume` continues it like `Simulation.resume` if it is this one, with the same
            settings, `error` raises.
        checkpoint_every: Steps between checkpoints in `logdir`; None: ten in a run, at least 100 steps apart.
        threads: Torch's threads in this process. Small networks lose more to a second thread than they gain.
        backend: `cohort` computes agents of the same kind together; `native` also by a compiled kernel. Or an engine of your
            own: a function that is called with the built system and returns its `Backend`, without `logdir`.
        stacked: Whether agents are stacked. Probes need False: they read messages and windows of single agents.
        parts: The number of parts that compute the scenario; or the part of each agent, by name; or settings: `count` or
            `placement`, and `mode`, `delay`, `ray` (see the options of `antiphon run`, and `parts` in run.json).
            None: the scenario is not divided. Parts compute the steps of `run` that nothing observes; in lockstep, the run
            is bit-identical to an undivided one.
        capture: Whether `run` replays recorded periods of the schedule (CUDA graphs) at steps that nothing observes, which
            changes no bit; or the object that replays them. For GPUs.

    Raises:
        ScenarioError: The scenario cannot be built or divided; the message names the place.
        DataError: Data of the environment are missing or damaged.
        RunError: `logdir` cannot be written or holds a run other than the one to resume, or a part cannot be started.
        ResourceError: There is not enough memory. Steps raise it too.
    """

    _writer: RunWriter | None = None
    _history: History | None = None
    _coordinator: Coordinator | None = None
    _captured: CapturedLoop | None = None

    def __init__(
        self,
        scenario: Scenario | Template | str | Path,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        logdir: str | Path | None = None,
        exist: str = "number",
        checkpoint_every: int | None = None,
        threads: int = 1,
        backend: str | BackendFactory = "cohort",
        stacked: bool = True,
        parts: int | Mapping[str, Any] | PartsSettings | None = None,
        capture: bool | CapturedLoop = False,
    ) -> None:
        check_interval(checkpoint_every, logdir)
        folder = None if logdir is None else given_path(logdir, "logdir")
        if folder is not None and not isinstance(backend, str):
            raise ScenarioError(
                "logdir: a run is resumed with the backend that run.json names, and a function was given; leave logdir out, "
                "or use cohort or native"
            )
        division, scenario = PartsSettings.of(parts), as_scenario(scenario)
        settings: dict[str, Any] = {"threads": threads, "backend": backend, "stacked": stacked}
        settings |= {"seed": seed, "device": device, "dtype": dtype}
        with own_context(), ExitStack() as inside, ExitStack() as undo:
            before = None
            check_exist(exist)
            if folder is not None:
                check_free(folder, "number" if exist == "resume" else exist)
                if exist == "resume" and not is_free(folder):
                    before = RunDirectory.open(folder)
                    undo.callback(before.release)
                    before.lock()
                    scenario = _check_same_run(before, scenario, **settings)
                    inside.enter_context(recorded_context(before))
            opened = None
            if before is None and division is not None:
                scenario, division, opened = with_chosen_delay(scenario, division, **settings)
                if opened is not None:
                    undo.callback(opened.close)
            loads = before is not None and bool(before.checkpoints)
            super().__init__(without_weights(scenario) if loads else scenario, **settings)
            undo.callback(self.close)
            self.scenario = scenario
            self._goal = self.scenario.training.steps
            self.recordings: list[Recording] = []
            self._captured = captured_loop(self.device, backend, capture, parts=division is not None)
            if before is not None:
                if loads:
                    self._load_saved(read_simulation(before.path, scenario, self.device))
                self._go_on(before, division)
                _record_in(self, before, checkpoint_every)
            else:
                if division is not None:
                    self._divide(division, opened)
                if folder is not None:
                    facts: dict[str, Any] = {} if stacked else {"stacked": False}
                    if capture is True:
                        facts["capture"] = True
                    if self._division is not None:
                        facts["parts"] = self._division
                    self._writer = open_writer(self, folder, checkpoint_every, facts, exist=exist)
            undo.pop_all()

    @classmethod
    def resume(
        cls,
        logdir: str | Path,
        scenario: Scenario | Template | str | Path | None = None,
        *,
        checkpoint_every: int | None = None,
        parts: int | Mapping[str, Any] | PartsSettings | None = None,
    ) -> Self:
        """Return the simulation of a run directory at its newest checkpoint, to continue as if it had never stopped.

        `run()` continues to the step at which the run was to end. Device, threads, backend and the precision of its matrix
        products are read from run.json.

        Args:
            logdir: The run directory, from the command line or from Python.
            scenario: The same agents and data; needed if the run's scenario holds Python objects.
            checkpoint_every: See `Simulation`.
            parts: See `Simulation`; the number may differ from the run's. None: the run's own.

        Raises:
            ScenarioError: `scenario` is invalid or not found, or cannot be divided into these parts.
            RunError: There is no run, it is damaged, another process writes to it, or `scenario` differs from the run's;
                the message names the first difference.
            DivergenceError: The run diverged and would diverge again.
        """
        check_interval(checkpoint_every, logdir)
        return resumed(
            cls,
            RunDirectory.open(given_path(logdir, "logdir")),
            scenario,
            PartsSettings.of(parts),
            checkpoint_every,
        )

    @classmethod
    def _of_directory(
        cls,
        directory: RunDirectory,
        scenario: Scenario | Template | str | Path | None = None,
        division: PartsSettings | None = None,
    ) -> Self:
        """Return the simulation of a run at its newest checkpoint, or at step 0 where it has none; it records nothing.

        With a `division` it goes on in these parts, which run.json has as soon as it does.

        Raises:
            ScenarioError: `scenario` is not one, or not found, or cannot be divided.
            RunError: It cannot go on, or `scenario` is missing or another one.
            DivergenceError: It diverged and would do so again.
        """
        facts, given = directory.facts, given_scenario(directory, scenario)
        with fitting(directory.path / "run.json"):
            dtype, settings = getattr(torch, facts["dtype"]), cls._settings_of(facts)
        if directory.checkpoints:
            with uncollected():
                saved = read_simulation(directory.path, given, settings["device"])
            settings |= {"seed": saved.seed, "dtype": saved.dtype}
            simulation = cls._restored(saved.scenario, lambda one: one._load_saved(saved), **settings)
        else:  # it ended before its first checkpoint
            simulation = cls(given or directory.scenario, seed=facts["seed"], dtype=dtype, **settings)
        try:
            simulation._go_on(directory, division)
        except BaseException:
            simulation.close()
            raise
        return simulation

    @classmethod
    def _settings_of(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a run's simulation, beside its seed and type, as run.json has them."""
        settings = {"threads": facts["threads"], "stacked": facts.get("stacked", True)}
        settings["capture"] = facts.get("capture", False)
        if checked_backend(backend := facts["backend"]) != backend:
            fix = "install one, or go on with rounding of its own: Simulation.load(…, backend='cohort')"
            raise RunError(
                f"{facts['scenario']}: its backend '{backend}' needs a C++ compiler, which this machine lacks; {fix}"
            )
        return {**settings, "backend": backend, "device": chosen_device(facts["device"])}

    @in_own_context
    def _go_on(self, directory: RunDirectory, division: PartsSettings | None) -> None:
        """Go on with a run at its newest checkpoint, in these parts or as it was divided."""
        check_continues(self)
        facts = directory.facts
        division = division or PartsSettings.of_facts(facts)
        if division is not None:
            self._divide(division)
            facts["parts"] = self._division
        if len(facts.get("together") or []) > 1 and "alone_from" not in facts:
            facts["alone_from"] = self.now  # its last bits differ from here on

    # --- parts -------------------------------------------------------------------------------------------

    @in_own_context
    def _divide(self, division: PartsSettings, opened: RayParts | None = None) -> None:
        """Have parts take the steps from here on that nothing observes; one part in this process divides nothing.

        Raises:
            ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
            RunError: A part cannot be started.
        """
        self._synchronize()
        if self._coordinator is not None:
            self._coordinator.close()
        if division.placement is not None:
            check_placement(self._system, division.placement)
        self._coordinator = None if division.one_process else Coordinator(self, division, opened)
        self.ahead = lambda: self._coordinator is not None and self._coordinator.ahead(self)

    @property
    def _division(self) -> dict[str, Any] | None:
        """Its division as run.json has it, the `placement` of agents among it; None: it is computed as a whole."""
        return None if self._coordinator is None else self._coordinator.facts

    def _advance(self, *, watch: Watch = False, keep: bool = True) -> RowMask:
        """Take one step as its base does; with parts, they take it if nothing observes it, and no episode's end is known."""
        coordinator = self._coordinator
        if coordinator is None and self._captured is not None and self.diverged is None:
            every = self.scenario.telemetry.period
            alone = lambda step: (
                self.row_steps.due(step)
                or self._observed(step)
                or (step + 1) % every == 0
                or (bool(self.recorders) and bool(self.newest.watched(step, self.row_steps)))
            )
            if self._captured.advance(self, alone):  # with the steps of a replayed period
                return False
        if coordinator is None:
            return super()._advance(watch=watch, keep=keep)
        if self._observed(self.now) and not coordinator.free:
            self._synchronize()
            ended = super()._advance(watch=watch, keep=keep)
            coordinator.observe(self)
            return ended
        if self.diverged is not None:
            raise DivergenceError(self.diverged)
        self.learned = AgentReport.empty(self.backend.stacked)
        coordinator.advance(self, self._observed)
        return False

    def _observed(self, step: int) -> bool:
        """Whether something besides figures reads the state after a step, or what was learned at it."""
        read = bool(self.recordings) or self._valued(step)
        read = read or (bool(self.recorders) and self.validation.due(step + 1))
        return read or step + 1 >= self.observed_at or step + 1 == self.until

    def _synchronize(self) -> None:
        """Wait for the device, as its base does, and take over the state that parts have reached."""
        if self._coordinator is not None and self.diverged is None:
            self._coordinator.gather(self)
        if self._captured is not None:
            self._captured.synchronize(self)
        super()._synchronize()

    # --- running -----------------------------------------------------------------------------------------

    @in_own_context
    def step(self) -> StepInfo:
        """Take one environment step, record its metrics, and return what happened. See `BaseSimulation.step`."""
        step, watch = self.now, self.row_steps.due(self.now)
        info = super().step()
        self._record(step, watch=watch)
        if self._writer is not None:
            self._writer.step_by_hand()
        return info

    def _record(self, step: int, *, watch: bool) -> None:
        if self.watched and (self._coordinator is None or not self._coordinator.has_taken(self)):
            keep_figures(self, step, self.watched)
        if watch:
            row = None if self._coordinator is None else self._coordinator.row(self)
            self.train_means.end_row()
            if self.recorders:  # else they are those of another seed
                write_figures(self, step, row)
            self.newest.end_row()
            if self._coordinator is not None:
                self._coordinator.write_statistics(self)
        if self._valued(step):
            write_value(self, step)
        if self.recorders and self.validation.due(step + 1):
            write_validation(self, step)
        if self._env.exhausted:
            self.stop_reason = self.stop_reason or "the examples of the loader have ended"
        for recording in self.recordings:
            recording.add(self.backend, self.learned, step)

    def _valued(self, step: int) -> bool:
        """Whether the values of channels are measured after a step."""
        valued = self.scenario.telemetry.value
        return bool(self.recorders) and valued is not None and (step + 1) % valued.period == 0

    def stop(self, reason: str = "stopped by the program") -> None:
        """End the run after the present step, with the reason in run.json. The run's `exit` is `done`.

        For callbacks of `run`: outside a run it has no effect.
        """
        if self.in_run:
            self.stop_reason = self.stop_reason or reason

    def set(self, key: str, value: object) -> None:
        """Change a setting from the next step on, in `scenario`, forks and checkpoints too; a checkpoint is written to `logdir`.

        The system is built again with the changed scenario, and its state is kept: from here on, the run is bit-identical
        to a simulation with this setting in this state. An agent that begins to learn has a new optimiser.

        Args:
            key: `AGENT.learning_rate`, `.schedule`, `.learn`, `.p_update` (the probability to learn from a window),
                `.optimiser.clip`, `.optimiser.weight_decay`; of its objective `.scale` (`.scale.0` of the first of several),
                `.reward.NAME`, `.discount`, `.trace`, `.entropy`, `.value`, `.clip`. `CHANNEL.learning_rate`, `.schedule`,
                `.learn`, `.optimiser.…`, `.scale`, `.discount`, `.clip` of a synthetic gradient, `.input.…` of a synthetic
                input, `.drop`, `.noise`, `.bits` of a link. `*` in the name matches any characters. Agents that share
                parameters are set together, but for their objectives.
            value: As in a scenario file. A learning rate is the schedule's base; a schedule keeps the run's horizon.

        Raises:
            ScenarioError: The setting cannot change during a run, or not to this value; nothing has changed. Of one of several
                seeds that are trained together, only hyperparameters can.
            DivergenceError: A loss or gradient was not finite at an earlier step.
            RunError: The simulation has been closed.
        """
        self._set_all([(key, value)], f"{key} is {show_value(value)} from here on")
        if self._writer is not None:
            self._writer.directory.note(changes=self.changes)
            self._writer.directory.checkpoint(self)

    @in_own_context
    def load_weights(
        self,
        source: str | Path,
        agents: Iterable[str] | Mapping[str, str] | None = None,
    ) -> TakenWeights:
        """Load parameters and running statistics of another run's agents, where names and shapes match.

        Predictors of channels keep their parameters. The optimiser of an agent that is loaded is reset. A checkpoint is
        written to `logdir`.

        Args:
            source: A run directory (its newest checkpoint), or a checkpoint folder.
            agents: The agents to load; or a mapping from them to the run's agents. None: all that the run has.

        Returns:
            What was loaded, what was not, and why. The load is also an event.

        Raises:
            RunError: The run or checkpoint is missing or damaged, or this simulation has been closed.
            ScenarioError: An agent is missing in this simulation or in the run, or does not fit; or parts in mode `free` have
                started, which hold the parameters. Nothing has changed.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        self._check_open()
        if self._coordinator is not None and self._coordinator.free and self._coordinator.begun:
            raise ScenarioError(
                "load_weights: parts in free mode have started and hold the parameters; call it before the first run, or "
                "use parts in lockstep"
            )
        self._synchronize()
        found = load_weights(self.backend, self.now, source, agents)
        if self._writer is not None:
            directory = self._writer.directory
            directory.checkpoint(self)
            directory.note(weights=[*directory.facts.get("weights", []), *found.origins(self.now)])
        return found

    def run(
        self,
        steps: int | None = None,
        *,
        epochs: float | None = None,
        episodes: int | None = None,
        seconds: float | None = None,
        progress: bool = True,
        callbacks: Iterable[object] = (),
    ) -> History:
        """Train, and return the metrics.

        Ctrl-C and SIGTERM end the run after the present step, with a checkpoint; an evaluation that has not ended seconds
        later is given up. Then your own handler of the signal is called; without one, KeyboardInterrupt is raised. A second
        signal raises it at once.

        `logdir` receives the same files as a run from the command line: ten checkpoints (the newest two are kept), a result
        at the end, and after an exception its reason in run.json. Before the first step, the warnings of `antiphon check`
        are issued as `ScenarioWarning`, but for controls.

        Args:
            steps: Further environment steps. Without any limit, the run ends at `training.steps` (a resumed simulation: at
                the step at which the run was to end).
            epochs: Further passes over the examples, rounded up to whole steps; fractions are possible. The first limit
                that is reached ends the run.
            episodes: Episodes of the first environment.
            seconds: Wall-clock time.
            progress: Whether to show progress on standard error: a bar on a terminal, else at most one line a minute.
            callbacks: Functions, which are called with the simulation after every step; or objects with any of the
                methods `on_start`, `on_evaluate` (called with the simulation and the evaluation, before the step's `on_step`),
                `on_step`, `on_checkpoint` (after it is written) and `on_end` (not after an exception). `simulation.stop()`
                ends the run after the present step.

        Returns:
            The log entries of this run. With a `logdir` they are read from metrics.csv on first access. Without one, a
            scenario with more than `telemetry.max` agents or channels has none, unless `simulation.history` was read
            before or `training.evaluate` is set.

        Raises:
            DivergenceError: A loss or gradient was not finite; what was learned before is kept, also in `logdir`.
            ScenarioError: A limit or callback is invalid, the environment's episodes never end, or it has no epochs.
            RunError: The simulation has been closed.
            KeyboardInterrupt: See above.
        """
        if self.now == 0:
            for line in advice_on_a_run(self.scenario, saved=self._writer is not None):
                warnings.warn(line, ScenarioWarning, stacklevel=2)
        steps = steps_to_take(self, steps, epochs)
        if steps is None and episodes is None and seconds is None:
            steps = max(0, self._goal - self.now)
        calls, start = Callbacks(callbacks), self.now
        total = None if steps is None else self.now + steps
        observers: list[Observer] = [RunProgress(total, self.now), calls]
        if self._writer is not None:
            observers.append(self._writer)
        history = history_of_run(self)
        with nullcontext() if progress else hidden():
            number, error = _train(self, calls, observers, steps=steps, episodes=episodes, seconds=seconds)
        if error is not None:
            raise DivergenceError(error)
        if number:
            place = "run()" if self.logdir is None else f"Simulation.resume('{self.logdir}')"
            deliver(number, f"{place} continues after step {self.now:,}")
        return history.between(start, self.now)

    def close(self) -> None:
        """Close recorders and environment; a second call does nothing.

        After steps taken with `step()`, a checkpoint and a result are written to `logdir`. The run's `exit` is `stopped` if
        there were fewer than `training.steps`, else `done`.
        """
        self._close(None)

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        self._close(failure)

    def _close(self, failure: BaseException | None) -> None:
        with ExitStack() as closing:
            if self._writer is not None:
                closing.callback(self._writer.directory.release)
            closing.callback(super().close)
            if self._coordinator is not None:
                closing.callback(self._coordinator.close)
            if self._writer is not None:
                self._writer.close(failure)

    # --- playing -----------------------------------------------------------------------------------------

    @in_own_context
    def policy(self, *, greedy: bool = True, seed: int | None = None) -> Policy:
        """Return the present agents as a policy for an environment's own loop: `act(observation)` and `reset()`.

        Args:
            greedy: Whether to take the most likely action instead of a sample.
            seed: Seed of the samples; None: the simulation's.

        Raises:
            ScenarioError: No agent acts.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        self._synchronize()
        check_own_loop(self)
        seed = self.seed if seed is None else seed
        return Policy(self._system, self._env, greedy=greedy, seed=seed, threads=self.threads)

    # --- figures -----------------------------------------------------------------------------------------

    @property
    def agents(self) -> dict[str, AgentHandle]:
        """The present agents by name: `.parameters`, `.updates`, and `.module`, a plain torch module."""
        make = partial(AgentHandle, keep=self._keep, in_place=self.backend.in_place)
        return Named("agent", {name: make(each) for name, each in self._system.agents.items()})

    @property
    def channels(self) -> dict[str, ChannelHandle]:
        """The present channels by name: messages, synthetic gradient and input, and metrics."""
        channels = self._system.channels.items()
        measured, watched = partial(_figures_of_channels, self), self.backend.in_place
        make = partial(ChannelHandle, measured=measured, keep=self._keep, in_place=watched)
        return Named("channel", {name: make(each) for name, each in channels})

    @property
    def logdir(self) -> Path | None:
        """The run directory, with the number that `exist` gave it; None: nothing is written."""
        return None if self._writer is None else self._writer.directory.path

    @property
    def graph(self) -> nx.MultiDiGraph[str]:
        """The scenario's graph with the newest metrics as attributes of its nodes and edges."""
        return live_graph(self)

    @property
    def history(self) -> History:
        """All logged metrics, one value per entry: `pandas.DataFrame(simulation.history)` is a table of them.

        With a `logdir`, they are read from metrics.csv. Without one, they are kept in memory from the first access, or from
        the first `run` that returns them.
        """
        if self._writer is not None:
            return History.read(self._writer.directory.path / "metrics.csv")
        if self._history is None and self.now:
            line = f"history: begins after step {self.now}; read it before the first step, or give a logdir"
            warnings.warn(line, stacklevel=2)
        return _kept_history(self)

    def _keep(self, name: str, quantities: Sequence[str], period: int) -> Recording:
        """Begin a recording (`AgentHandle.record`, `ChannelHandle.record`)."""
        if self._coordinator is not None and self._coordinator.free and name not in self.scenario.agents:
            raise ScenarioError(
                f"record: parts that do not wait hold the messages of '{name}'; record parameters, or use parts in lockstep"
            )
        recording = Recording(self._system, name, tuple(quantities), period)
        self.recordings.append(recording)
        return recording

    # --- probes ------------------------------------------------------------------------------------------

    @in_own_context
    def probe(self, horizon: int = 0) -> dict[str, Probe]:
        """Return, per channel, the true gradient of the messages of the next step: see `true_gradients`."""
        return true_gradients(self, horizon)

    @in_own_context
    def value(
        self,
        channels: Sequence[str] | None = None,
        horizon: int = 50,
        repeats: int = 5,
        ahead: int | None = None,
    ) -> Values:
        """Return what the learning signal of channels is worth, in forks (semantics 36): see `probes.value.value`."""
        return value(self, channels=channels, horizon=horizon, repeats=repeats, ahead=ahead)


def _train(
    simulation: Simulation, calls: Callbacks, observers: Sequence[Observer], **limits: Any
) -> tuple[int, str | None]:
    """Run the loop, and return the signal that ended it (0: none did) and why it diverged, in one line."""
    simulation._keeps_messages = calls.each_step or bool(simulation.recordings)

    def notify(event: str, *about: object) -> None:
        if calls.call(event, simulation, *about) and simulation._coordinator is not None:
            simulation._coordinator.changed()

    simulation.notify = notify
    try:
        (outcome,) = RunLoop([simulation], observers).run(**limits)
    except Interrupted as interrupted:
        return interrupted.number, None
    except ScenarioError as error:  # refused before it started
        if simulation._writer is not None:
            simulation._writer.close(error)
        raise
    finally:
        simulation.notify = lambda *_: None
        simulation._keeps_messages = True
        if simulation._coordinator is not None:
            simulation._coordinator.release(simulation)
        if simulation._captured is not None:
            simulation._captured.release(simulation)
    calls.call("on_end", simulation)
    return outcome.signal, outcome.error


@in_own_context
def _figures_of_channels(simulation: Simulation) -> dict[str, dict[str, float]]:
    with simulation.fork(stacked=False) as twin:
        return channel_figures(twin)


def _kept_history(simulation: Simulation) -> History:
    """Return the history that a simulation without a directory keeps in memory, from here on at the latest."""
    if simulation._history is None:
        simulation._history = History()
        simulation.recorders.append(simulation._history)
    return simulation._history


def history_of_run(simulation: Simulation) -> History:
    """Return what a run's history is taken of: metrics.csv, or what is kept in memory, which few agents are by default."""
    if simulation._writer is not None:
        return History(partial(read_figures, simulation._writer.directory.path / "metrics.csv"))
    scenario = simulation.scenario
    few = max(len(scenario.agents), len(scenario.channels)) <= scenario.telemetry.max
    if simulation._history is None and not few and scenario.training.evaluate is None:
        return History()
    return _kept_history(simulation)


def resumed(
    kind: type[Resumed],
    directory: RunDirectory,
    scenario: Scenario | Template | str | Path | None,
    division: PartsSettings | None,
    checkpoint_every: int | None,
    until: int | None = None,
) -> Resumed:
    """Return the simulation of a run, to continue in its directory: see `Simulation.resume`; `until`: the step it is to reach."""
    with ExitStack() as undo:
        undo.callback(directory.release)
        directory.lock()
        with recorded_context(directory):
            simulation = kind._of_directory(directory, scenario, division)
        undo.callback(simulation.close)
        _record_in(simulation, directory, checkpoint_every, until)
        undo.pop_all()
    return simulation


def _record_in(
    simulation: Simulation, directory: RunDirectory, checkpoint_every: int | None, until: int | None = None
) -> None:
    """Write to the directory of a run that goes on, to step `until` or to the one that it was to reach."""
    if until is not None or directory.facts["exit"] != "done":
        simulation.until = simulation._goal = until or directory.facts["steps"]
    elif directory.facts.get("reason"):  # it was stopped early: it goes on where more steps are asked for
        simulation._goal = simulation.now
    simulation._writer = RunWriter(simulation, directory, checkpoint_every)


def _check_same_run(directory: RunDirectory, scenario: Scenario, **settings: Any) -> Scenario:
    """Return the scenario of a run that is to be resumed; RunError where it is another one, else as `given_scenario`."""
    found = given_scenario(directory, scenario) or directory.scenario
    settings["dtype"] = str(settings["dtype"]).removeprefix("torch.")
    settings |= {"device": str(settings["device"]), "backend": checked_backend(settings["backend"])}
    directory.check_same(directory.differences(**settings))
    return found


def steps_to_take(simulation: BaseSimulation, steps: int | None, epochs: float | None) -> int | None:
    """Return the steps of a run whichever of both limits is less; None: there is none.

    Raises:
        ScenarioError: A limit that cannot be, or epochs of an environment without.
    """
    check_limit("steps", steps)
    steps = None if steps is None else int(steps)
    if epochs is None:
        return steps
    check_limit("epochs", epochs, whole=False)
    needed = steps_of_epochs(simulation._env, epochs, simulation.now)
    return needed if steps is None else min(steps, needed)


def given_scenario(
    directory: RunDirectory, scenario: Scenario | Template | str | Path | None
) -> Scenario | None:
    """Return the scenario that a run's checkpoints are loaded with; None: they hold their own scenario.

    Raises:
        ScenarioError: `scenario` is not one, or not found.
        RunError: `scenario` is another one than the run's, or its parts did not wait for one another.
        DivergenceError: The run diverged and would do so again.
    """
    with fitting(directory.path / "run.json"):
        division = PartsSettings.of_facts(directory.facts)
    if division is not None and division.mode == "free" and directory.checkpoints:
        raise RunError(
            f"{directory.path}: its parts ran in free mode, and no checkpoint holds the messages between them; "
            "start another run, from its weights if you like"
        )
    if directory.facts["exit"] == "diverged":
        error = directory.facts["error"]
        raise DivergenceError(f"{directory.path}: diverged and would do so again: {error}")
    described = directory.described  # None: it is a document
    if scenario is not None:
        saved = described_scenario(directory.scenario) if described is None else described
        scenario = with_saved_delays(as_scenario(scenario), saved)
        try:
            check_same_scenario(saved, described_scenario(scenario))
        except RunError as error:
            raise RunError(f"{directory.path}: {error}") from None
    return None if described is None else scenario


def check_interval(steps: int | None, logdir: str | Path | None) -> None:
    """Refuse an interval of checkpoints that is no number of steps, or that has no folder to write to."""
    if steps is not None and (isinstance(steps, bool) or not hasattr(steps, "__index__") or steps < 1):
        raise ScenarioError(f"checkpoint_every: {steps!r}; must be a whole number of steps, at least 1")
    if steps is not None and logdir is None:
        raise ScenarioError(f"checkpoint_every: {steps} has no effect without a logdir; give one")
