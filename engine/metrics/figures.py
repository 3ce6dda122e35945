"""Figures: what a step says about agents and channels, as plain numbers for whoever records them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch

from antiphon.comms.credit import constant
from antiphon.engine.metrics.description import graph_of
from antiphon.engine.metrics.digests import digests
from antiphon.engine.metrics.measures import Measured, of_agents, of_channels
from antiphon.engine.metrics.samples import sampled_at, samples
from antiphon.nets.memory import uncollected
from antiphon.telemetry.figures import Figure, HistogramRow, Kind

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["channel_figures", "figures", "histograms", "live_graph", "write_figures"]


_LOOK_AHEAD = 64
"""Steps that a look at the channels takes at most, in a fork."""


@torch.no_grad()
def figures(
    simulation: Simulation, step: int, scores: Mapping[str, Mapping[str, float]] | None = None
) -> list[Figure]:
    """Return the figures of one step.

    Per agent: `loss` and its objective's metric, as `scores` has them, `updates`, `parameter_norm`,
    `gradient_norm`. Per channel: `sg_loss`, alignment with what came back (`cosine`, `norm_ratio`, `r2`, …),
    `injection_norm`, `message_mean`, `message_std`, `message_energy` (root of the mean square), of states `outliers`
    (gradients shortened so far), `age` (steps since the newest usable message was sent), `traffic` (bits a step and
    environment), on links that lose or with a synthetic input `lost`, `stand_in`, `si_loss`, and on links with noise or
    bits `distortion`.

    Args:
        simulation: Whose agents and channels; just after `step`.
        step: The step just taken.
        scores: Loss and metric by agent, means since the last figures.
    """
    system, learned = simulation.backend.view(), simulation.learned.stacks
    own = [
        Figure("agent", name, metric, value)
        for name, found in (scores or {}).items()
        for metric, value in found.items()
    ]
    agents = _rows("agent", simulation.scenario.agents, of_agents(system, learned))
    return [*own, *agents, *_rows("channel", simulation.backend.channels, of_channels(system, learned, step))]


def _rows(kind: Kind, names: Iterable[str], measured: Iterable[Measured]) -> list[Figure]:
    """One figure each, of one agent or channel after the other."""
    found: dict[str, list[Figure]] = {name: [] for name in names}
    for who, metric, values, told in measured:
        for place, (name, value) in enumerate(zip(who, values, strict=True)):
            if told is None or told[place]:
                found[name].append(Figure(kind, name, metric, float(value)))
    return [row for rows in found.values() for row in rows]


def channel_figures(twin: Simulation) -> dict[str, dict[str, float]]:
    """Return each channel's newest figures, found by letting a fork go on for some steps.

    Args:
        twin: The fork; it is used up.
    """
    system = twin.system
    found: dict[str, dict[str, float]] = {name: {} for name in system.channels}
    windows = [unit.windows.end(1) - unit.windows.end(0) for unit in system.units]
    delays = [channel.ledger.link.delay for channel in system.channels.values()]
    for _ in range(min(2 * max(system.hold, *windows) + 2 * max(delays, default=0), _LOOK_AHEAD)):
        twin.advance(watch=True)
        for row in figures(twin, twin.now - 1):
            if row.kind == "channel":
                found[row.name][row.metric] = row.value
    return found


def live_graph(simulation: Simulation) -> nx.MultiDiGraph[str]:
    """Return a simulation's graph with the newest figures as attributes of its nodes and edges."""
    scenario, scores = simulation.scenario, simulation.train_means.row() | simulation.train_means.means()
    graph = graph_of(scenario)
    edges = {channel.name: (channel.sender, channel.receiver, channel.key) for channel in scenario.channels}
    for row in figures(simulation, max(simulation.now - 1, 0), scores):
        if row.kind == "agent":
            graph.nodes[row.name][row.metric] = row.value
        elif row.name in edges:  # a state that a scenario does not mention is no edge of its graph
            graph.edges[edges[row.name]][row.metric] = row.value
    return graph


def write_figures(simulation: Simulation, step: int) -> None:
    """Hand what there is to see of the step just taken to the simulation's recorders."""
    with uncollected():  # the figures of a large graph would have all there is searched for garbage
        _write(simulation, step)


def _write(simulation: Simulation, step: int) -> None:
    rows = figures(simulation, step, simulation.train_means.row())
    rows += [Figure("env", "", metric, value) for metric, value in simulation.world.env.figures().items()]
    wanted = simulation.scenario.telemetry.histograms
    arrays = histograms(simulation) if wanted else []
    some = []
    if sampled_at(step, simulation.scenario.telemetry.every, simulation.until):
        some = samples(simulation.backend.view(), simulation.scenario)
    told = digests(simulation)
    for recorder in simulation.recorders:
        recorder.figures(step + 1, rows)
        if arrays:
            recorder.histograms(step + 1, arrays)
        if some:
            recorder.samples(step + 1, some)
        recorder.digests(step + 1, told)


def histograms(simulation: Simulation) -> list[HistogramRow]:
    """Return messages, and true and synthetic gradients of the channels that learned, as arrays."""
    rows: list[HistogramRow] = []
    for name in simulation.backend.channels:
        sent = simulation.backend.sent(name)
        if sent is not None:
            rows.append(("channel", name, "message", _array(sent.message)))
        lesson = simulation.learned.predictor_updates.get(name)
        if lesson is not None and lesson.prediction is not None:
            rows.append(("channel", name, "synthetic_gradient", _array(lesson.prediction)))
            delta = lesson.examples[-1].delta
            if delta is not None:
                rows.append(("channel", name, "returned_gradient", _array(delta)))
    return rows


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = constant(tensor).cpu().numpy()
    return array
