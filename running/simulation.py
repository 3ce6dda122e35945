"""The simulation: a running scenario with its metrics, run directory, training loop and probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from antiphon.base.errors import DivergenceError
from antiphon.base.files import given_path
from antiphon.base.problems import checked_seed
from antiphon.base.signals import stopped_by
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.backends import BackendFactory
from antiphon.engine.capture.loop import CapturedLoop
from antiphon.engine.environment import EnvironmentRunner
from antiphon.engine.inference.evaluation import Evaluation, evaluation_of
from antiphon.engine.inference.exporting import ComposedExamples, ComposedRound, composed, exported
from antiphon.engine.inference.policy import Policy
from antiphon.engine.inference.rollout import Links
from antiphon.engine.live_system import LiveSystem, Settings, loaded
from antiphon.inspection.truth import Probe, true_gradients
from antiphon.running.callbacks import RunProgress, UserCallbacks
from antiphon.running.directory import RunDirectory, check_exist, run_folder
from antiphon.running.handles import AgentHandle, ChannelHandle, Named
from antiphon.running.loop import steps_to_take, train
from antiphon.running.run import Run, StepInfo
from antiphon.running.start import begin, resume
from antiphon.scenarios import Scenario, Template
from antiphon.telemetry.history import History
from antiphon.telemetry.metrics import Recorder


class Simulation:
    """A running scenario.

    Args:
        scenario: A scenario, a template (resolved with its defaults), a library name or a YAML file.
        seed: Seed of all random numbers.
        device: The device of all tensors.
        dtype: The type of all floating-point tensors.
        logdir: The run directory, written from the first step on; None: nothing is written.
        exist: What to do if `logdir` already exists and is not empty: `number` writes to the first free of logdir-2, …;
            `overwrite` removes the existing run, `resume` continues it like `Simulation.resume` if it is this one, with the same
            settings.
        checkpoint_every: Steps between checkpoints in `logdir`; None: ten in a run, at least 100 steps apart.
        threads: Torch's threads in this process. Small networks lose more to a second thread than they gain.
        backend: `cohort` computes agents of the same kind together; `native` also by a compiled kernel. Or an engine of your
            own: a function of the built system that returns what takes its steps, without `logdir`.
        stacked: Whether agents are stacked. Probes need False: they read messages and windows of single agents.
        parts: The number of parts that compute the scenario; or the part of each agent, by name; or settings: `count` or
            `placement`, and `mode`, `delay`, `ray` (see the options of `antiphon run`, and `parts` in run.json).
            None: the scenario is not divided. Parts compute the steps of `run` that nothing observes; in lockstep, the run
            is bit-identical to an undivided one. With `cluster` (a `ClusterProfile`, the name of one of antiphon's own, or
            a YAML file) they never wait, in virtual time: one step is as many steps of parts as there are parts.
        capture: Whether `run` replays recorded periods of the schedule (CUDA graphs) at steps that nothing observes, which
            changes no bit; or the object that replays them. For GPUs.

    Raises:
        ScenarioError: The scenario cannot be built or divided; the message names the place.
        DataError: Data of the environment are missing or damaged.
        RunError: `logdir` cannot be written or holds a run other than the one to resume, or a part cannot be started.
    """

    _run: Run

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
        settings = Settings.of(
            seed=seed, device=device, dtype=dtype, threads=threads, backend=backend, stacked=stacked
        )
        division = PartsSettings.of(parts)
        check_exist(exist)
        self._hold(
            begin(
                scenario,
                settings,
                logdir,
                exist=exist,
                division=division,
                capture=capture,
                checkpoint_every=checkpoint_every,
            )
        )

    def _hold(self, run: Run) -> None:
        self._run, self.running = run, run.running

    @classmethod
    def over(cls, run: Run | LiveSystem) -> Self:
        """Return the simulation of a run that has begun, or of a running scenario, of which nothing is recorded yet."""
        simulation = cls.__new__(cls)
        simulation._hold(Run(run) if isinstance(run, LiveSystem) else run)
        return simulation

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
            parts: See `Simulation`; the number may differ from the run's, but in virtual time. None: the run's own.

        Raises:
            ScenarioError: `scenario` is invalid or not found, or cannot be divided into these parts.
            RunError: There is no run, it is damaged, another process writes to it, it is one of a population's, or `scenario`
                differs from the run's; the message names the first difference.
            DivergenceError: The run diverged and would diverge again.
        """
        directory = RunDirectory.open(given_path(logdir))
        directory.check_no_member()
        division = PartsSettings.of(parts)
        run = resume(directory, scenario, division=division, checkpoint_every=checkpoint_every)
        return cls.over(run)

    @classmethod
    def load(
        cls,
        path: str | Path,
        scenario: Scenario | Template | str | Path | None = None,
        *,
        device: torch.device | str = "cpu",
        threads: int = 1,
        backend: str | BackendFactory = "cohort",
    ) -> Self:
        """Return the simulation of a checkpoint. With the run's settings, its next steps are bit-identical to the saved run's.

        If the environment has no `state_dict`, the simulation can be evaluated, exported and used as a policy, but takes no
        steps.

        Args:
            path: A checkpoint folder, or a run directory (its newest checkpoint), of a population its winner's.
            scenario: The checkpoint's scenario; needed if it holds Python objects.
            device: See `Simulation`.
            threads: See `Simulation`.
            backend: See `Simulation`.

        Raises:
            ScenarioError: `scenario` is invalid or not found.
            RunError: The checkpoint is missing, damaged, of another scenario, or `scenario` is needed.
        """
        settings = Settings.of(device=device, threads=threads, backend=backend)
        return cls.over(loaded(run_folder(path), scenario, settings))

    # --- what runs ---------------------------------------------------------------------------------------

    @property
    def scenario(self) -> Scenario:
        """The resolved scenario, with all changes made since."""
        return self.running.scenario

    @property
    def now(self) -> int:
        """Steps taken."""
        return self.running.now

    @property
    def until(self) -> int:
        """The step at which the run ends."""
        return self.running.until

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.running.seed

    @property
    def events(self) -> list[tuple[int, str]]:
        """Events as (step, one line): the first clipping of an agent or channel, and changes by `set`."""
        return list(self.running.system.events)

    @property
    def signals(self) -> dict[str, Tensor]:
        """Copies of the environment's signals at the present step by name, [batch, …]: observations and targets."""
        return {name: value.clone() for name, value in self.running.signals.items()}

    @property
    def epoch(self) -> float | None:
        """Epochs so far, 1.5 in the middle of the second; None: the environment has no epochs."""
        return self.running.epoch

    @property
    def environment(self) -> Any:
        """The environment as its own library has it: a Gymnasium `VectorEnv` (`environment.set_attr("level", 2)`), a list with the
        PettingZoo environment of each row, or a `TorchVectorEnv`. An evaluation makes others, as they are at first."""
        env = self.running.env
        return env if env.given is None else env.given

    @property
    def world(self) -> EnvironmentRunner:
        """Its environment, as it is stepped."""
        return self.running.world

    @property
    def diverged(self) -> str | None:
        """The message of its divergence; None: it has not diverged."""
        return self.running.diverged

    @property
    def recorders(self) -> list[Recorder]:
        """The recorders, which receive the metrics."""
        return self._run.recorders

    @property
    def stop_reason(self) -> str | None:
        """Why the run ends early; None: it does not."""
        return self._run.stop_reason

    def __repr__(self) -> str:
        now, until, seed = f"{self.now:,}", f"{self.until:,}", self.seed
        return f"<Simulation of {self.scenario.scenario}: step {now} of {until}, seed {seed}>"

    # --- running -----------------------------------------------------------------------------------------

    def step(self) -> StepInfo:
        """Take one environment step (semantics 13), record its metrics, and return what happened.

        Returns:
            `step`, `ended` (which episodes ended) and `losses` ({agent: scalar tensor} of those that learned).

        Raises:
            DivergenceError: A loss or gradient was not finite. This step has changed no parameter.
            RunError: The simulation has been closed.
            ScenarioError: The simulation is one of several seeds that are trained together.
        """
        return self._run.step()

    def stop(self, reason: str = "stopped by the program") -> None:
        """End the run after the present step, with the reason in run.json. The run's `exit` is `done`.

        For callbacks of `run`: outside a run it has no effect.
        """
        self._run.stop(reason)

    def set(self, key: str, value: object) -> None:
        """Change a hyperparameter from the next step on, in `scenario`, forks and checkpoints too; a checkpoint is written to `logdir`.

        The system is built again with the changed scenario, and its state is kept: from here on, the run is bit-identical
        to a simulation with this setting in this state.

        Args:
            key: `AGENT.learning_rate`, `.p_update` (the probability to learn from a window),
                `.optimiser.clip`, `.optimiser.weight_decay`; of its objective `.scale` (`.scale.0` of the first of several),
                `.reward.NAME`, `.discount`, `.trace`, `.entropy`, `.value`, `.clip`, `.epsilon`. `CHANNEL.learning_rate`,
                `.optimiser.…`, `.scale`, `.discount` of a synthetic gradient, `.input.…` of a synthetic
                input, `.drop`, `.noise` of a link. `*` in the name matches any characters. Agents that share
                parameters are set together, but for their objectives.
            value: As in a scenario file. A learning rate is the schedule's base; a schedule keeps the run's horizon.

        Raises:
            ScenarioError: The setting cannot change during a run, or not to this value; nothing has changed. Of one of several
                seeds that are trained together, only hyperparameters can.
            DivergenceError: A loss or gradient was not finite at an earlier step.
            RunError: The simulation has been closed.
        """
        self._run.set({key: value})

    def run(
        self,
        steps: int | None = None,
        *,
        epochs: float | None = None,
        progress: bool = True,
        callbacks: Iterable[object] = (),
    ) -> History:
        """Train, and return the metrics.

        Ctrl-C and SIGTERM end the run after the present step, with a checkpoint; an evaluation that has not ended seconds
        later is given up. Then your own handler of the signal is called; without one, KeyboardInterrupt is raised. A second
        signal raises it at once.

        `logdir` receives the same files as a run from the command line: ten checkpoints (the newest two are kept), a result
        at the end, and after an exception its reason in run.json. Before the first step, the warnings of `antiphon check`
        are issued as `ScenarioWarning`, and at the end one that names agents with an objective that learned nothing.

        Args:
            steps: Further environment steps. Without a limit, the run ends at `training.steps` (a resumed simulation: at
                the step at which the run was to end).
            epochs: Further passes over the examples, rounded up to whole steps; fractions are possible. The first limit
                that is reached ends the run.
            progress: Whether to show progress on standard error: a bar on a terminal, else at most one line a minute.
            callbacks: Functions, which are called with the simulation after every step; or objects with the methods `on_step`
                or `on_evaluate` (called with the simulation and the evaluation, before the step's `on_step`).
                `simulation.stop()` ends the run after the present step.

        Returns:
            The log entries of this run. With a `logdir` they are read from metrics.csv on first access. Without one, a
            scenario with more than `telemetry.max` agents or channels has none, unless `simulation.history` was read
            before or `training.evaluate` is set.

        Raises:
            DivergenceError: A loss or gradient was not finite; what was learned before is kept, also in `logdir`.
            ScenarioError: A limit or callback is invalid, or the environment has no epochs.
            RunError: The simulation has been closed.
            KeyboardInterrupt: Ctrl+C was pressed.
        """
        run, running = self._run, self.running
        running.check_open()
        steps = steps_to_take(running, steps, epochs)
        if steps is None:
            steps = run.steps_left
        start, history = running.now, run.history_of_run()
        shown = [RunProgress(start + steps, start)] if progress else []
        try:
            (outcome,) = train([run], steps, [*shown, UserCallbacks(callbacks, self)])
        finally:
            running.executor.release(running)
        if outcome.error is not None:
            raise DivergenceError(outcome.error)
        if outcome.signal:
            raise stopped_by(outcome.signal, f"run() continues after step {running.now:,}")
        return history.between(start, running.now)

    def close(self) -> None:
        """Close recorders and environment, but no environment object that the caller made; a second call does nothing.

        After steps taken with `step()`, a checkpoint and a result are written to `logdir`. The run's `exit` is `stopped` if
        there were fewer than `training.steps`, else `done`.
        """
        self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        self._run.close(failure)

    # --- forking and saving ------------------------------------------------------------------------------

    def fork(self, backend: str | BackendFactory | None = None, *, stacked: bool = True) -> Self:
        """Return an independent copy, without recorders and `logdir`.

        Args:
            backend: The backend of the copy; None: the same, or `cohort` if `stacked` is False.
            stacked: See `Simulation`.

        Raises:
            RunError: The environment has no `state_dict`.
            ScenarioError: The environment is an object that cannot be copied.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        return type(self).over(self.running.fork(backend, stacked=stacked))

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint folder, whole or not at all, and return its path.

        If the environment has no `state_dict`, its state is left out: the checkpoint can be evaluated and exported, but not
        continued.

        Raises:
            RunError: It cannot be written.
            DivergenceError: A loss or gradient was not finite at an earlier step. After that, a second call saves the
                diverged simulation.
        """
        return self.running.save(path)

    # --- evaluating and playing --------------------------------------------------------------------------

    def evaluate(
        self,
        split: str = "test",
        links: Links | str = "perfect",
        *,
        episodes: int | None = None,
        sampled: bool = False,
    ) -> Evaluation:
        """Score the system on a split; no bit of the run changes (semantics 24).

        If agents have policies, the score is the return of whole episodes in a new environment, with the same batch as in
        training. In an environment without splits, the split only names different episodes.

        Args:
            split: `test`, `validation` or `train`.
            links: `perfect`: the composed system; delays are kept, nothing is dropped, no synthetic input is used.
                `as_run`: the links of the run. Or `Links("as_run", drop=…)`.
            episodes: For policies: the number of whole episodes per environment; None: 200 of all environments
                together; in a stream of examples one pass through the split.
            sampled: For policies: whether to sample actions as in training, instead of the most likely one.

        Raises:
            ScenarioError: No such split or kind of links, the environment has no splits or cannot be copied; `episodes` or
                `sampled` if no agent has a policy.
            RunError: An environment does not finish its episodes.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        return evaluation_of(self.running, split, links, episodes=episodes, sampled=sampled)

    def compose(self, agents: Sequence[str] | None = None) -> ComposedExamples | ComposedRound:
        """Return the composed system as one torch module, with copies of the parameters.

        Over a stream of examples it takes the environment's own observations by signal, [batch, *shape] each, and returns
        {agent: [batch, outputs]}. Elsewhere it takes those of `steps_per_round` steps, [steps, batch, *shape] each, and the
        state that the call before returned (None: nothing has been sent yet), and returns {agent: [ticks, batch, outputs]}
        and the new state. It computes no gradients.

        Args:
            agents: The agents whose outputs the module returns; None: the readouts.

        Raises:
            ScenarioError: No such agent, or it has no objective; the system cannot be composed.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        return composed(self.running, agents)

    def export(self, path: str | Path, agents: Sequence[str] | None = None) -> Path:
        """Write the composed system or weights to a file that can be read without antiphon, and return its path.

        Args:
            path: `*.pt2`: the module of `compose` for any batch size, for `torch.export.load`; a state that it takes begins
                with zeros.
                `*.safetensors`: parameters and running statistics, as `agent.name`, once for tied agents.
            agents: The agents whose outputs the module returns (None: the readouts), or whose weights are written (None: all).

        Raises:
            ScenarioError: No such agent, or it has no objective; the system cannot be composed (see `compose`).
            RunError: Another suffix; torch cannot trace a module; the file cannot be written.
                No file is written.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        return exported(self.running, path, agents)

    def policy(self, *, greedy: bool = True, seed: int | None = None) -> Policy:
        """Return the present agents as a policy for an environment's own loop: `act(observation)` and `reset()`.

        Args:
            greedy: Whether to take the most likely action instead of a sample.
            seed: Seed of the samples, and of parts of the action that no agent chooses; None: the simulation's.

        Raises:
            ScenarioError: No agent acts.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        running = self.running
        running.synchronize()
        seed = running.seed if seed is None else checked_seed(seed, "policy: ")
        return Policy(running.system, running.env, greedy=greedy, seed=seed)

    # --- metrics -----------------------------------------------------------------------------------------

    @property
    def agents(self) -> Named[AgentHandle]:
        """The present agents by name: `.parameters`, `.updates`, and `.module`, a plain torch module."""
        running = self.running
        return Named("agent", {name: AgentHandle(name, running) for name in running.system.agents})

    @property
    def channels(self) -> Named[ChannelHandle]:
        """The present channels by name: messages, synthetic gradient and input, and metrics."""
        of_run = self.running, self._run.history
        return Named("channel", {name: ChannelHandle(name, *of_run) for name in self.running.system.channels})

    @property
    def logdir(self) -> Path | None:
        """The run directory, with the number that `exist` gave it; None: nothing is written."""
        return None if self._run.directory is None else self._run.directory.path

    @property
    def history(self) -> History:
        """All logged metrics, one value per entry: `pandas.DataFrame(simulation.history)` is a table of them.

        With a `logdir`, they are read from metrics.csv. Without one, they are kept in memory from the first access, or from
        the first `run` that returns them.
        """
        return self._run.history()

    # --- probes ------------------------------------------------------------------------------------------

    def probe(self, horizon: int = 0) -> Named[Probe]:
        """Return, per channel, the gradient of all losses by the messages of the next step, computed in a fork.

        Gradients pass through all channels as if locked, and across windows.

        Args:
            horizon: Further steps whose losses count. A message that arrives later has no gradient.

        Raises:
            ScenarioError: The horizon is negative.
        """
        return Named("channel", true_gradients(self.running, horizon))
