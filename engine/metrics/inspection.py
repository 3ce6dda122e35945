"""Looking at a simulation: nothing here changes a bit of the run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import networkx as nx
import torch
from torch import fx

from antiphon.engine.core.system import System
from antiphon.engine.inference.evaluation import Evaluation, evaluate
from antiphon.engine.inference.export import export
from antiphon.engine.inference.links import Links
from antiphon.engine.metrics.description import described
from antiphon.engine.metrics.figures import channel_figures, live_graph
from antiphon.engine.metrics.handles import AgentHandle
from antiphon.engine.metrics.recording import Recording
from antiphon.engine.probes.truth import Probe, true_gradients
from antiphon.engine.probes.value import Values, value
from antiphon.envs import registry
from antiphon.envs.base import TorchVectorEnv
from antiphon.scenarios import Scenario
from antiphon.telemetry.channels.documents import graph_document, timeline_document
from antiphon.telemetry.channels.live import LiveGraph
from antiphon.telemetry.channels.reading import read_run
from antiphon.telemetry.channels.recorder import gathered
from antiphon.telemetry.figures import Recorder
from antiphon.telemetry.history import History

if TYPE_CHECKING:
    from antiphon.engine.runs.run_writer import RunWriter
    from antiphon.engine.simulation import Simulation

__all__ = ["Inspection"]


class Inspection:
    """What can be seen of a simulation; `Simulation` has it all."""

    scenario: Scenario
    seed: int
    device: torch.device
    dtype: torch.dtype
    recordings: list[Recording]
    _env: TorchVectorEnv
    _history: History | None = None
    recorders: list[Recorder]
    now: int
    _writer: RunWriter | None

    @property
    def system(self) -> System:
        """What it is made of, one agent at a time and up to date."""
        raise NotImplementedError

    @property
    def _simulation(self) -> Simulation:
        return cast("Simulation", self)

    @property
    def agents(self) -> dict[str, AgentHandle]:
        """The agents by name: `.module` is an agent's network as a plain torch module."""
        return {name: AgentHandle(agent) for name, agent in self.system.agents.items()}

    @property
    def events(self) -> list[tuple[int, str]]:
        """What was shortened or put into quarantine, the first time each: (step, one line)."""
        return self.system.divergence.events

    @property
    def graph(self) -> nx.MultiDiGraph[str]:
        """The scenario's graph with the newest figures as attributes of its nodes and edges."""
        return live_graph(self._simulation)

    @property
    def history(self) -> History:
        """Every figure, a row each: `pandas.DataFrame(simulation.history)` is a table of them.

        With a `logdir` it is what metrics.csv has so far. Else it is kept in memory from the first time that it is asked
        for: ask before the first step.
        """
        if self._writer is not None:
            return History.read(self._writer.directory.path / "metrics.csv")
        if self._history is None:
            if self.now:
                line = f"history: begins after step {self.now}; ask for it before the first step, or give a logdir"
                warnings.warn(line, stacklevel=2)
            self._history = History()
            self.recorders.append(self._history)
        return self._history

    def show(self) -> LiveGraph:
        """Draw the live graph in a notebook, now and while the simulation goes on; elsewhere `save` it as a page.

        Before `run`, in the same cell or an earlier one.
        """
        if self._writer is not None:
            look = partial(read_run, self._writer.directory.path)
        else:
            history, description = self.history, described(self._simulation)
            times = description.timeline
            timeline = None if times is None else timeline_document(times, description)
            look = partial(gathered, self.scenario.scenario, graph_document(description), timeline, history)
        view = LiveGraph(look)
        view.display()
        self.recorders.append(view)
        return view

    def redraw(self) -> None:
        """Bring live graphs up to date: while a simulation runs they are drawn now and then only."""
        for recorder in self.recorders:
            if isinstance(recorder, LiveGraph):
                recorder.redraw()

    def channel_figures(self) -> dict[str, dict[str, float]]:
        """Return each channel's newest figures, measured in a fork that is thrown away.

        Among them `message_mean`, `message_std`, `age` (steps), and where it has a predictor `sg_loss` and its
        alignment with what came back (`cosine`, `norm_ratio`, `r2`).
        """
        with self._simulation.fork(stacked=False) as twin:
            return channel_figures(twin)

    def probe(self, horizon: int = 0) -> dict[str, Probe]:
        """Return, per channel, the true gradient of the messages of the coming step, in a fork thrown away.

        Args:
            horizon: How many further steps' losses count.
        """
        return true_gradients(self._simulation, horizon)

    def value(
        self,
        channels: Sequence[str] | None = None,
        horizon: int = 50,
        repeats: int = 5,
        ahead: int | None = None,
    ) -> Values:
        """Return what the learning signal of channels is worth, each and all together, in forks (semantics 36).

        Args:
            channels: Which; None: each of them, besides all together.
            horizon: Steps of learning over which it is measured.
            repeats: How often, each time on other examples: they give the interval.
            ahead: Steps whose losses count as a message's effects; None: until every objective has been reached.

        Raises:
            ScenarioError: There is no such channel, or nothing to measure.
        """
        return value(self._simulation, channels=channels, horizon=horizon, repeats=repeats, ahead=ahead)

    def record(self, name: str, quantities: Sequence[str], every: int = 1) -> Recording:
        """Keep raw tensors over time.

        Args:
            name: An agent, or a channel (`a->b`).
            quantities: Of an agent: names of its parameters; of a channel: `message`, `delta` (what its predictor
                learned from), `prediction` (what was injected).
            every: Steps between entries.

        Raises:
            ScenarioError: There is no such agent, channel or quantity.
        """
        recording = Recording(self.system, name, tuple(quantities), every)
        self.recordings.append(recording)
        return recording

    def evaluate(self, split: str = "test", links: Links | str = "perfect") -> Evaluation:
        """Score the system on a split; no bit of the run changes (semantics 24).

        Args:
            split: `test`, `validation` or `train`.
            links: `perfect`: the composed system; delays are kept, nothing is dropped, no synthetic input is used.
                `as_run`: over the links as they are in the run. Or `Links("as_run", drop=…, inputs=…)`.

        Raises:
            ScenarioError: No such split or kind of links, or the environment has no splits.
            DivergenceError: A loss or gradient of an earlier step was not finite, as the device says only now.
        """
        self._simulation.synchronize()
        return evaluate(self.system, self._env, self.scenario.readouts, split, links, self.seed, self._make)

    def _make(self, batch: int, split: str | None = None) -> TorchVectorEnv:
        """Make an environment of the scenario; None: of the part of the data that it trains on."""
        env = self.scenario.env
        return registry.make(env, batch=batch, device=self.device, dtype=self.dtype, split=split)

    def compose(self, agents: Sequence[str] | None = None) -> fx.GraphModule:
        """Return the corporation as one torch module: signals in, {agent: output} out; None: of the readouts.

        Raises:
            DivergenceError: As of `evaluate`.
        """
        self._simulation.synchronize()
        return export(self.system, self.scenario.readouts if agents is None else agents)
