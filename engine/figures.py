"""Figures: what a step says about agents and channels, as plain numbers for whoever records them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch

from antiphon.comms.alignment import alignment
from antiphon.comms.cut import constant
from antiphon.engine.directory import graph_of
from antiphon.engine.learned import Learned
from antiphon.engine.parts import Channel
from antiphon.engine.system import System
from antiphon.telemetry.figures import Figure, HistogramRow

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["channel_figures", "figures", "histograms", "live_graph", "write_figures"]


_LOOK_AHEAD = 64
"""Steps that a look at the channels takes at most, in a fork."""


@torch.no_grad()
def figures(
    system: System, learned: Learned, scores: Mapping[str, Mapping[str, float]], step: int
) -> list[Figure]:
    """Return the figures of one step.

    Per agent: `loss` and its objective's metric, as `scores` has them, `updates`, `parameter_norm`,
    `gradient_norm`. Per channel: `sg_loss`, alignment with what came back (`cosine`, `norm_ratio`, `r2`),
    `injection_norm`, `message_mean`, `message_std`, of states `outliers` (gradients shortened so far), `age` (steps since the newest usable message was sent), `traffic`
    (bits a step and environment), on links that lose or with a synthetic input `lost`, `stand_in`, `si_loss`, and on
    links with noise or bits `distortion`.

    Args:
        system: The agents and channels.
        learned: What was learned at the step.
        scores: Loss and metric by agent, means since the last figures.
        step: The step just taken.
    """
    own = [Figure("agent", name, metric, v) for name, found in scores.items() for metric, v in found.items()]
    return [*own, *_agents(system, learned), *_channels(system, learned, step)]


def _agents(system: System, learned: Learned) -> Iterator[Figure]:
    for update in learned.updates:
        for name, gradients in update.gradients.items():
            found = [g for g in gradients if g is not None]
            if found:
                norms = torch.stack(torch._foreach_norm(found))
                yield Figure("agent", name, "gradient_norm", norms.norm().item())
    for name, agent in system.agents.items():
        yield Figure("agent", name, "updates", float(agent.learner.updates))
        if system.divergence.quarantine:
            yield Figure("agent", name, "silenced", float(agent.silenced))
        parameters = list(agent.learner.parameters.values())
        if parameters:
            norms = torch.stack(torch._foreach_norm(parameters))
            yield Figure("agent", name, "parameter_norm", norms.norm().item())


def _channels(system: System, learned: Learned, step: int) -> Iterator[Figure]:
    for name, (loss, _) in learned.inputs.items():
        yield Figure("channel", name, "si_loss", loss.item())
    injected = {k: v for update in learned.updates for k, v in update.injected.items()}
    for name, channel in system.channels.items():
        if name in learned.lessons:
            lesson = learned.lessons[name]
            yield Figure("channel", name, "sg_loss", lesson.loss.item())
            newest = lesson.examples[-1]
            if newest.delta is not None and lesson.prediction is not None:
                rows = slice(None) if newest.valid is None else newest.valid
                for metric, value in alignment(lesson.prediction[rows], newest.delta[rows]).items():
                    yield Figure("channel", name, metric, value.item())
        if name in injected:
            yield Figure("channel", name, "injection_norm", injected[name].norm(dim=1).mean().item())
        records = channel.ledger.records
        if records:
            message = records[max(records)].message
            yield Figure("channel", name, "message_mean", message.mean().item())
            yield Figure("channel", name, "message_std", message.std(correction=0).item())
        if channel.outliers is not None:
            yield Figure("channel", name, "outliers", float(channel.outliers.bites))
        newest_usable = channel.ledger.sender.latest(step - channel.ledger.link.delay)
        if newest_usable is not None:
            yield Figure("channel", name, "age", float(step - newest_usable))
        yield from _on_the_way(channel, step)


def _on_the_way(channel: Channel, step: int) -> Iterator[Figure]:
    """What the link did to the message due now, and what it carries.

    `lost` and `stand_in` (shares of environments), `distortion` (root of the mean squared change by noise and bits, in
    the message's own units), `traffic` (bits a step and environment).
    """
    ledger, link = channel.ledger, channel.ledger.link
    stamp = ledger.sender.latest(step - link.delay)
    record = None if stamp is None else ledger.records.get(stamp)
    if record is not None and (link.drop or channel.input is not None):
        lost = 0.0 if record.lost is None else record.lost.float().mean().item()
        yield Figure("channel", channel.name, "lost", lost)
        if channel.input is not None:
            share = 1.0 if channel.coupling == "unlocked" else lost
            yield Figure("channel", channel.name, "stand_in", share)
    if record is not None and (link.noise or link.bits):
        change = (record.received - record.message).square().mean().sqrt().item()
        yield Figure("channel", channel.name, "distortion", change)
    if channel.state:
        return  # it stays where it is
    width = link.bits or torch.finfo(channel.zeros.dtype).bits
    sends = ledger.sender.rate / ledger.sender.clock.period
    yield Figure("channel", channel.name, "traffic", channel.size * width * sends)


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
        for row in _channels(system, twin.learned, twin.now - 1):
            found[row.name][row.metric] = row.value
    return found


def live_graph(simulation: Simulation) -> nx.MultiDiGraph[str]:
    """Return a simulation's graph with the newest figures as attributes of its nodes and edges."""
    scenario, scores = simulation.scenario, simulation.scores | simulation.tally.means()
    graph = graph_of(scenario)
    edges = {channel.name: (channel.sender, channel.receiver, channel.key) for channel in scenario.channels}
    for row in figures(simulation.system, simulation.learned, scores, max(simulation.now - 1, 0)):
        if row.kind == "agent":
            graph.nodes[row.name][row.metric] = row.value
        elif row.name in edges:  # a state that a scenario does not mention is no edge of its graph
            graph.edges[edges[row.name]][row.metric] = row.value
    return graph


def write_figures(simulation: Simulation, step: int) -> None:
    """Hand the figures of the step just taken to the simulation's recorders."""
    rows = figures(simulation.system, simulation.learned, simulation.scores, step)
    rows += [Figure("env", "", metric, value) for metric, value in simulation.world.env.figures().items()]
    wanted = simulation.scenario.telemetry.histograms
    arrays = histograms(simulation.system, simulation.learned) if wanted else []
    for recorder in simulation.recorders:
        recorder.figures(step + 1, rows)
        if arrays:
            recorder.histograms(step + 1, arrays)


def histograms(system: System, learned: Learned) -> list[HistogramRow]:
    """Return messages, and true and synthetic gradients of the channels that learned, as arrays."""
    rows: list[HistogramRow] = []
    for name, channel in system.channels.items():
        records = channel.ledger.records
        if records:
            rows.append(("channel", name, "message", _array(records[max(records)].message)))
        lesson = learned.lessons.get(name)
        if lesson is not None and lesson.prediction is not None:
            rows.append(("channel", name, "synthetic_gradient", _array(lesson.prediction)))
            delta = lesson.examples[-1].delta
            if delta is not None:
                rows.append(("channel", name, "returned_gradient", _array(delta)))
    return rows


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = constant(tensor).cpu().numpy()
    return array
