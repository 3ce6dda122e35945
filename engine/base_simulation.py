"""What runs, without what watches it: a scenario that is stepped, forked, evaluated and saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, fx

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.files import fitting, given_path
from antiphon.base.memory import refusals_named, uncollected
from antiphon.base.spec import frozen_data
from antiphon.engine.backends import BackendFactory, backend_of, checked_backend
from antiphon.engine.build.builder import build, chosen_device, without_weights
from antiphon.engine.environment import (
    EnvironmentRunner,
    continued,
    environment_state,
    make_environment,
    signals_read,
    with_own_env,
)
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.heart.system import System
from antiphon.engine.in_use import release
from antiphon.engine.inference.evaluation import FEWEST, SHARE, Evaluation, evaluate
from antiphon.engine.inference.export import export, with_output
from antiphon.engine.inference.film import film
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.model_files import write_system
from antiphon.engine.inference.policy import policy_module
from antiphon.engine.inference.validation import Validation
from antiphon.engine.metrics.newest import NewestFigures, Watched
from antiphon.engine.metrics.report import AgentReport, MeanAccumulator, RowSteps
from antiphon.engine.replicas import Replica
from antiphon.engine.state import checkpoint
from antiphon.engine.state.changes import changed
from antiphon.engine.state.checkpoint import Saved, read_simulation, write_simulation
from antiphon.engine.state.compatibility import check_compatible, check_objects
from antiphon.engine.state.described_scenario import described_scenario
from antiphon.engine.state.hyperparameters import differences_of
from antiphon.engine.state.objects import check_kept, lost_state
from antiphon.engine.state.state_dict import with_optimisers_of
from antiphon.envs.adaptors.native import native_of
from antiphon.envs.base import TorchVectorEnv
from antiphon.nets.isolation.matmul_precision import matmul_precision
from antiphon.nets.isolation.own_context import in_own_context, own_context
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.document import as_scenario
from antiphon.telemetry.figures import Figure, Recorder

StepInfo = dict[str, Any]
"""`step`, `ended` (which episodes ended) and `losses` ({agent: scalar tensor} of those that learned)."""


class BaseSimulation:
    """The state of a running scenario. For the arguments see `Simulation`, which adds recording and the run loop.

    Attributes:
        scenario: The resolved scenario, with all changes made since.
        now: Steps taken.
        changes: Changes made by `set`: step, key and value, in order.
        until: The step at which the run ends.
        backend: Computes the steps.
        world: Its environment.
        learned: Losses and updates of the newest step.
        train_means: Means of losses and metrics since the last log entry.
        newest: The newest metrics since then of what happens at some steps only.
        watched: Whose metrics of the newest step, if it has no log entry, are kept for the next one.
        recorders: Receive the metrics.
        diverged: The message of its divergence; None: it has not diverged.
        obstacle: Why it cannot take steps (its checkpoint has no state of the environment); None: it can.
        matmul_precision: Torch's precision of matrix products in its calls: the one that it was created with.
        closed: Whether it has been closed, and takes no more steps.
        observed_at: Steps taken when something other than its recorders reads its state next, set by the run loop; parts
            may compute the steps before. 0: it is read after every step.
        stopping: Whether the run loop is to end now.
        ahead: Whether parts have taken steps already that it has yet to count.
        validation: The best values of its evaluations during training.
        evaluated: The newest evaluation; None: there was none in this session.
        stop_reason: Why its run ends early; None: it does not.
        in_run: Whether a run loop steps it.
        notify: Calls the callbacks of the run with the name of an event and its arguments.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        backend: str | BackendFactory = "cohort",
        stacked: bool = True,
    ) -> None:
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise ScenarioError(f"seed: {seed!r}; must be a whole number")
        seed, threads = int(seed), int(threads)
        self._backend = checked_backend(backend) if isinstance(backend, str) else backend
        self.threads, self._stacked = threads, stacked
        self.matmul_precision = matmul_precision()
        self.scenario = scenario = as_scenario(scenario)
        self.device, self.dtype = chosen_device(device), dtype
        self.recorders: list[Recorder] = []
        self._timing: Callable[[int], Sequence[Figure]] = lambda step: ()
        """Returns the timing metrics of a step, which are logged with its first metrics."""
        self._logged_at: int | None = None
        self.changes: list[tuple[int, str, Any]] = []
        self.closed = False
        self.observed_at: float = 0
        self.stopping: Callable[[], bool] = lambda: False
        self.ahead: Callable[[], bool] = lambda: False
        self.evaluated: Evaluation | None = None
        self.stop_reason: str | None = None
        self.in_run = False
        self.notify: Callable[..., None] = lambda *_: None
        self._update: Callable[[], object] = lambda: None
        """Brings environment and means up to date where several seeds are stepped together."""
        self.watched = Watched()
        with own_context(threads):
            self._env = make_environment(scenario, self.device, dtype, scenario.training.batch)
            try:
                with uncollected(kept=True), refusals_named():
                    self._start(seed)
                if scenario.telemetry.value is not None:
                    self._env.state_dict()  # forks need it: an environment without one is refused now, not in mid-run
            except BaseException:
                self.close()
                raise

    def _start(self, seed: int) -> None:
        self.seed = seed
        self.now = 0
        system = build(self.scenario, self._env.description, seed=seed, device=self.device, dtype=self.dtype)
        self.backend = backend_of(self._backend, system, stacked=self._stacked)
        self.learned = AgentReport.empty(self.backend.stacked)
        release(getattr(self, "_world", self))  # of another seed, whose environment this one goes on with
        self._world = EnvironmentRunner(self._env, signals_read(system), seed)
        system.next_episode(0, self._env.episode_length)
        self._train_means, self.newest = MeanAccumulator(system), NewestFigures(system)
        self.diverged: str | None = None
        self.obstacle: str | None = None
        self.until = self.scenario.training.steps
        self.validation = Validation(self.scenario.training)

    @property
    def world(self) -> EnvironmentRunner:
        self._update()
        return self._world

    @property
    def train_means(self) -> MeanAccumulator:
        self._update()
        return self._train_means

    @property
    def _system(self) -> System:
        """Its agents and channels, one by one: views of the stacks' rows, as they are now."""
        return self.backend.per_agent()

    @property
    def events(self) -> list[tuple[int, str]]:
        """Events as (step, one line): the first clipping and the quarantine of an agent or channel, and changes by `set`."""
        return self._system.on_divergence.events

    @property
    def signals(self) -> dict[str, Tensor]:
        """The signals of the environment at the present step by name, [batch, …]: observations and targets."""
        return dict(self.world.step_signals.signals)

    @property
    def epoch(self) -> float | None:
        """Epochs so far, 1.5 in the middle of the second; None: the environment has no epochs."""
        epoch = self._env.epoch_at(self.now)
        return None if epoch is None else float(epoch)

    # --- stepping ----------------------------------------------------------------------------------------

    @in_own_context
    def step(self) -> StepInfo:
        """Take one environment step (semantics 13) and return what happened: see `StepInfo`.

        Raises:
            DivergenceError: A loss or gradient was not finite. This step has changed no parameter.
            RunError: The simulation has been closed.
            ScenarioError: The simulation is one of several seeds that are trained together.
        """
        self._check_open()
        if isinstance(self.backend, Replica):
            raise ScenarioError(
                "step: this simulation is one of several seeds that are trained together; use a fork of it"
            )
        step, self.watched = self.now, self.watched_now
        watch = self.row_steps.due(step) or self.watched.learning
        with refusals_named():
            ended = self._advance(
                watch=watch,
                keep=bool(watch or self.watched) or self._keeps_messages or step + 1 == self.until,
            )
        return {"step": step, "ended": ended, "losses": self.learned.by_agent()}

    @property
    def watched_now(self) -> Watched:
        """The agents and channels whose metrics are kept of the present step for the next log entry."""
        return self.newest.watched(self.now, self.row_steps) if self.recorders else Watched()

    _keeps_messages: bool = True
    """Whether messages and injections of every step are kept until the next one; else `training.sweep` may release them."""

    @property
    def row_steps(self) -> RowSteps:
        """The steps at which metrics are recorded."""
        if not self.recorders:
            return RowSteps(0, 0)
        evaluate = self.scenario.training.evaluate
        may_end = evaluate.period if evaluate is not None and evaluate.patience else 0
        return RowSteps(self.scenario.telemetry.period, self.until, may_end)

    def _advance(self, *, watch: Watch = False, keep: bool = True) -> RowMask:
        """Take one step and return which episodes ended; nothing is recorded.

        Args:
            watch: Whether, or of which channels, predictions are kept in `learned`; it changes no number.
            keep: See `Engine.tick`.
        """
        if self.diverged is not None:
            raise DivergenceError(self.diverged)
        check_continues(self)
        step = self.now
        # What the step before has left is as large as the gradients and messages.
        self.learned = AgentReport.empty(self.backend.stacked)
        self.backend.tick(step, self._world.step_signals, keep=keep)
        ends = self._world.advance(self.backend.action)
        self.backend.cut(step, ends)  # known before anything learns
        try:
            self.learned = AgentReport(self.backend.learn(step, watch=watch), self.backend.stacked)
            if (step + 1) % self.scenario.telemetry.period == 0 or step + 1 == self.until:
                self._synchronize()
        except DivergenceError as error:  # what was learned before stays as it was; the rest cannot go on
            self.backend.restore_statistics()
            self.diverged = str(error)
            raise
        if ends.ended is True:
            self.backend.system.next_episode(self._world.step_signals.step, self._env.episode_length)
        self._train_means.add(self.learned)
        self.now = step + 1
        return ends.ended

    @in_own_context
    def _synchronize(self) -> None:
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

    # --- changing ----------------------------------------------------------------------------------------

    @in_own_context
    def _set_all(self, changes: Sequence[tuple[str, Any]], line: str) -> None:
        """Change several settings at once, with `line` as the event. See `Simulation.set`."""
        self._check_open()
        self._synchronize()
        scenario = changed(self.scenario, changes)
        _check_change(self, scenario, "set")
        with refusals_named():
            _continue_as(self, scenario, _built(self, scenario), line)
        self.changes += [(self.now, key, frozen_data(value)) for key, value in changes]

    # --- evaluating --------------------------------------------------------------------------------------

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
                `as_run`: the links of the run. Or `Links("as_run", drop=…, inputs=…)`.
            episodes: For policies: the number of whole episodes per environment; None: so many that they take about a
                quarter of the steps trained so far (at least 200), at most 1,000 of all environments and at least one of
                each; in a stream of examples one pass through the split.
            sampled: For policies: whether to sample actions as in training, instead of the most likely one.

        Raises:
            ScenarioError: No such split or kind of links, the environment has no splits or cannot be copied; `episodes` or
                `sampled` if no agent has a policy.
            RunError: An environment does not finish its episodes.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        how: dict[str, Any] = {"episodes": episodes, "sampled": sampled}
        return self._evaluate(split, links, **how, steps=max(FEWEST, self.now // SHARE))

    @in_own_context
    def _evaluate(self, split: str, links: Links | str = "perfect", **how: Any) -> Evaluation:
        """Score the system; `how`: see `engine.inference.evaluation.evaluate`."""

        self._synchronize()
        with uncollected():
            readouts = self.scenario.readouts
            scores = evaluate(
                self._system, self._env, readouts, split, links, self.seed, partial(_continued, self), **how
            )
        spec = self.scenario.training.evaluate
        if spec is None or split != spec.split:
            return scores
        return replace(scores, selected=spec.selected_on_test)

    @in_own_context
    def compose(self, agents: Sequence[str] | None = None) -> fx.GraphModule:
        """Return the composed system as one torch module: the environment's own observations in, {agent: output} out.

        Args:
            agents: The agents whose outputs the module returns; None: the readouts.

        Raises:
            ScenarioError: No such agent, or it has no objective; the system cannot be composed.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        self._synchronize()
        check_own_loop(self)
        names = with_output(self._system, self.scenario.readouts) if agents is None else agents
        return export(self._system, names, native_of(self._env).conversions)

    @in_own_context
    def export(
        self,
        path: str | Path,
        agents: Sequence[str] | None = None,
        *,
        episodes: int = 1,
        actions: Literal["greedy", "sampled"] | None = None,
    ) -> Path:
        """Write the composed system, weights, or a film to a file that can be read without antiphon, and return its path.

        Args:
            path: `*.pt2`: the module of `compose` for any batch size, for `torch.export.load`. If the scenario has a time
                axis, its arguments are the observations of one round of steps and the state by name, which begins with zeros.
                `*.onnx`: the same, with the extra `onnx`. `*.safetensors`: parameters and running statistics, as
                `agent.name`, once for tied agents. `*.gif`: whole episodes, the environment's pictures beside bars of the
                messages.
            agents: The agents whose outputs the module returns (None: the readouts), whose weights are written, or whose
                messages the film shows (None: all).
            episodes: The number of episodes of a film.
            actions: For agents that act and have no memory: the module returns the action for an observation, both
                [batch, …]: the most likely one (`greedy`: the largest logit, or the mean) or a sample (`sampled`). None: it
                returns the agents' outputs.

        Raises:
            ScenarioError: No such agent, or it has no objective; the system cannot be composed (see `compose`); the
                environment renders no pictures, or its episodes never end.
            RunError: Another suffix; torch cannot trace a module; the file cannot be written.
                No file is written.
            DivergenceError: A loss or gradient was not finite at an earlier step.
        """
        self._synchronize()
        path, policy = given_path(path), None
        if path.suffix not in (".gif", ".safetensors"):
            check_own_loop(self)
        if actions is not None:
            if actions not in ("greedy", "sampled") or agents or path.suffix not in (".pt2", ".onnx"):
                raise ScenarioError(
                    f"export: actions={actions!r}; write greedy or sampled, for a .pt2 or .onnx and without agents"
                )
            policy = policy_module(self._system, self._env, greedy=actions == "greedy")
        if path.suffix == ".gif":
            how: dict[str, Any] = {"seed": self.seed, "episodes": episodes, "senders": agents}
            return film(self._system, self.scenario, self._env, path, self.now, **how)
        readouts = with_output(self._system, self.scenario.readouts)
        return write_system(self._system, native_of(self._env), path, agents, readouts, policy)

    # --- forking and saving ------------------------------------------------------------------------------

    @in_own_context
    def _state_dict(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the state, without copying a tensor.

        Args:
            whole: Whether an environment that keeps its state to itself is an error; else its state is None.

        Raises:
            RunError: The environment, or an own objective, keeps its state to itself.
            DivergenceError: See `synchronize`.
        """
        self._synchronize()
        lost = lost_state(self._system)
        if whole and lost is not None:
            raise RunError(lost)
        return {
            **({"env": self._env.state_dict()} if whole else environment_state(self._env)),
            "now": self.now,
            "seed": self.seed,
            "diverged": self.diverged,
            **self.world.state_dict(),
            "means": self.train_means.state_dict(),
            **({"newest": newest} if (newest := self.newest.state_dict()) else {}),
            "system": self.backend.state_dict(),
            **({} if lost is None else {"lost": lost}),
            **self.validation.state_dict(),
            **({"changes": [list(change) for change in self.changes]} if self.changes else {}),
        }

    @in_own_context
    def _load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same scenario; open windows are replayed.

        Raises:
            RunError: It is of another scenario; the line names the first difference, and nothing has changed.
            ResourceError: There is not enough memory for it.
        """
        scenario, system = self.scenario, self._system
        changes = [(step, key, value) for step, key, value in state.get("changes", self.changes)]
        try:
            if changes != self.changes:
                scenario = changed(scenario, [(key, value) for _, key, value in changes])
                _check_change(self, scenario, "load")
            if scenario != self.scenario:
                system = _built(self, scenario)
            check_compatible(system, self.world.step_signals.signals, state["system"], state["present"])
        except (RunError, ScenarioError) as difference:
            raise RunError(str(difference)) from None
        with refusals_named(), uncollected():
            if system is not self._system:
                _continue_as(self, scenario, system)
            self.changes = changes
            if state["seed"] != self.seed:
                self._start(state["seed"])
            state = checkpoint.copy_tree(state)
            self.now = state["now"]
            # a checkpoint without it: what is learned can be used, and nothing follows
            if state["env"] is None:
                if (carried := state.get("carried")) is not None:
                    self._env.carry(carried, self._env.num_envs)
                self.world.reset(self.seed)
            else:
                self._env.load_state_dict(state["env"])
            self.backend.load_state_dict(state["system"])
            self.world.load_state_dict(state)
            self.train_means.load_state_dict(state["means"])
            self.newest.load_state_dict(state.get("newest", {}))
            self.validation.load_state_dict(state)
            self.diverged = state["diverged"]

    def _load_saved(self, saved: Saved) -> None:
        """Take over the state of a checkpoint; one without the environment's can be evaluated and exported only.

        Raises:
            RunError: It is of another scenario; the line names the checkpoint and the first difference.
            ResourceError: There is not enough memory for it.
        """
        with fitting(saved.place):
            try:
                if saved.described is not None:
                    check_objects(saved.described, self._described)
                self._load_state_dict(saved.state)
            except RunError as error:
                raise RunError(f"{saved.place}: {error}") from None
            self.obstacle = saved.obstacle

    @classmethod
    def _restored(cls, scenario: Scenario, restore: Callable[[Self], None], **settings: Any) -> Self:
        """Return a simulation that takes over a state: pretrained weights are not looked for."""
        simulation = cls(without_weights(scenario), **settings)
        simulation.scenario = scenario
        try:
            restore(simulation)
        except BaseException:
            simulation.close()
            raise
        return simulation

    @in_own_context
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
        self._synchronize()
        check_kept(self._system)  # before the copy calls what it would share
        scenario = with_own_env(self.scenario, "a fork needs one of its own")
        settings = {"seed": self.seed, "device": self.device, "dtype": self.dtype, "threads": self.threads}
        settings |= {"backend": backend or (self._backend if stacked else "cohort"), "stacked": stacked}
        return self._restored(scenario, lambda twin: twin._load_state_dict(self._state_dict()), **settings)

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint folder, whole or not at all, and return its path.

        If the environment has no `state_dict`, its state is left out: the checkpoint can be evaluated and exported, but not
        continued.

        Raises:
            RunError: It cannot be written.
            DivergenceError: A loss or gradient was not finite at an earlier step. After that, a second call saves the
                diverged simulation.
        """
        with uncollected():
            state = self._state_dict(whole=False)
            return write_simulation(given_path(path), self.scenario, self.dtype, state, self._described)

    @cached_property
    def _described(self) -> dict[str, Any]:
        """The scenario as plain data, with the digest of each Python object when this was first asked for."""
        return described_scenario(self.scenario)

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
            path: A checkpoint folder, or a run directory (its newest checkpoint).
            scenario: The checkpoint's scenario; needed if it holds Python objects.
            device: See `Simulation`.
            threads: See `Simulation`.
            backend: See `Simulation`.

        Raises:
            ScenarioError: `scenario` is invalid or not found.
            RunError: The checkpoint is missing, damaged, of another scenario, or `scenario` is needed.
            ResourceError: There is not enough memory.
        """
        device = chosen_device(device)
        with uncollected():
            given = None if scenario is None else as_scenario(scenario)
            saved = read_simulation(given_path(path), given, device)
        settings = {"seed": saved.seed, "device": device, "dtype": saved.dtype, "threads": threads}
        return cls._restored(saved.scenario, lambda one: one._load_saved(saved), **settings, backend=backend)

    def _check_open(self) -> None:
        """Raise RunError if it has been closed."""
        if self.closed:
            raise RunError(
                "simulation: has been closed, and its environment with it; create a new one, or load a checkpoint"
            )

    def close(self) -> None:
        """Close recorders and environment, but no environment object that the caller made; a second call does nothing."""
        self.closed = True
        recorders, self.recorders = self.recorders, []
        release(self)
        release(getattr(self, "_world", self))  # none where the scenario was refused
        with ExitStack() as closing:
            closing.callback(self._env.let_go)
            for recorder in reversed(recorders):
                closing.callback(recorder.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        self.close()


def _continued(simulation: BaseSimulation, batch: int, split: str | None) -> TorchVectorEnv:
    """Make an environment for an evaluation, with the running statistics of the run's."""
    scenario = with_own_env(simulation.scenario, "an evaluation needs one of its own")
    env = make_environment(scenario, simulation.device, simulation.dtype, batch, split)
    return continued(env, simulation._env)


def check_own_loop(simulation: BaseSimulation) -> None:
    """Raise ScenarioError where a policy would see other observations in a loop of the user's own."""

    def make() -> TorchVectorEnv:
        scenario = with_own_env(simulation.scenario, "a policy needs one of its own")
        return make_environment(scenario, simulation.device, simulation.dtype, scenario.training.batch)

    simulation._env.check_own_loop(make)


def check_continues(simulation: BaseSimulation) -> None:
    """Raise RunError if a simulation is of a checkpoint from which no step can follow."""
    if simulation.obstacle is not None:
        raise RunError(simulation.obstacle)


def _check_change(simulation: BaseSimulation, scenario: Scenario, what: str) -> None:
    """Raise ScenarioError if this is one of several seeds, and more than hyperparameters would change."""
    if not isinstance(simulation.backend, Replica):
        return
    try:
        differences_of(simulation.scenario, scenario)
    except ScenarioError as difference:
        place = str(difference).partition(": ")[0]
        raise ScenarioError(
            f"{what}: {place} cannot change in place, and this simulation is one of several seeds that are trained together; "
            "use a fork of it"
        ) from None


def _continue_as(
    simulation: BaseSimulation, scenario: Scenario, system: System, event: str | None = None
) -> None:
    """Go on with another system of the same shapes, from the present state."""
    events = [] if event is None else [(simulation.now, event)]
    backend: object = simulation.backend
    if isinstance(backend, Replica):
        backend.take_values(system)
        simulation.scenario = scenario
        simulation._system.on_divergence.events += events
        return
    state = checkpoint.copy_tree(with_optimisers_of(system, simulation.backend.state_dict()))
    state["quarantine"]["events"] += map(list, events)
    means = simulation.train_means.state_dict()
    simulation.scenario = scenario
    simulation.backend = backend_of(simulation._backend, system, stacked=simulation._stacked)
    simulation.backend.load_state_dict(state)
    simulation._train_means = MeanAccumulator(system)
    simulation.train_means.load_state_dict(means)
    newest, simulation.newest = simulation.newest.state_dict(), NewestFigures(system)
    simulation.newest.load_state_dict(newest)


def _built(simulation: BaseSimulation, scenario: Scenario) -> System:
    """Return the system of a scenario for a simulation's environment, seed, device and type, without pretrained weights."""
    description = simulation.world.env.description
    settings: dict[str, Any] = {
        "seed": simulation.seed,
        "device": simulation.device,
        "dtype": simulation.dtype,
    }
    return build(without_weights(scenario), description, **settings)
