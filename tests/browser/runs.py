"""Runs for the Channels tab, written without running anything: their numbers are drawn, their names are chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry import Metric, RunDescription
from antiphon.telemetry.event_file import EventFile
from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.kit.tab import ChannelsWriter
from tests.telemetry.parts import made

Channel = tuple[str, str, str, Mapping[str, Any]]
"""Sender, receiver, key (may be empty), attributes."""

STEPS = (1, *range(10, 101, 10))
LABELS = 4
AGENTS: dict[str, dict[str, Any]] = {
    "left": {"about": {"network": "mlp 64", "observes": "left_half"}},
    "right": {"about": {"network": "mlp 64", "observes": "right_half"}},
    "middle": {"role": "frozen"},
    "slow": {"period": 4, "phase": 3, "unroll": 2},
    "mind": {"role": "readout", "about": {"objective": "classification of label"}},
    "second": {"role": "readout"},
}
CHANNELS: list[Channel] = [
    ("left", "mind", "", {"coupling": "decoupled", "about": {"gradient": "linear, context label"}}),
    ("left", "mind", "again", {"coupling": "detached", "delay": 2}),
    ("left", "slow", "", {"coupling": "decoupled", "delay": 1, "drop": 0.25}),
    ("middle", "mind", "", {"coupling": "locked"}),
    ("mind", "second", "", {"coupling": "delayed", "delay": 3}),
    ("right", "mind", "", {"coupling": "decoupled"}),
    ("right", "slow", "", {"coupling": "decoupled"}),
    ("slow", "mind", "", {"coupling": "decoupled", "delay": 1}),
    ("slow", "slow", "state", {"coupling": "decoupled", "carries": "state"}),
]
WITHOUT_COSINE = 3
"""The number of the channel that has no cosine at any step."""
WITH_MESSAGES = (0, 2)
"""Numbers of the channels whose messages are kept."""

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"double\" 'single' `tick` ${1}",
    "../../../etc/passwd",
    "=1+1,\n2",
    "javascript:alert(3)",
)
"""Names of agents and, the first, of a scenario."""
HOSTILE_RUN = "\"'><img src=x onerror=alert(4)>"
"""The name of a run that is a folder too."""


def channel_name(channel: Channel) -> str:
    """Return the name that a scenario gives a channel."""
    sender, receiver, key, _ = channel
    return f"{sender}->{receiver}" + (f":{key}" if key else "")


def description(
    agents: Mapping[str, Mapping[str, Any]],
    channels: Sequence[Channel],
    scenario: str = "made",
) -> RunDescription:
    """Return what recorders are told of a run of 100 steps."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, attributes in agents.items():
        graph.add_node(name, **{"role": "agent", "period": 1, **attributes})
    for sender, receiver, key, attributes in channels:
        graph.add_edge(sender, receiver, key or 0, **{"coupling": "decoupled", "size": 3, **attributes})
    named = [(channel_name(channel), f"channel{index}") for index, channel in enumerate(channels)]
    return RunDescription(
        graph=graph,
        names={"agents": list(agents), "channels": named},
        scenario=scenario,
        period=10,
        until=100,
    )


def metrics(
    agents: Sequence[str], channels: Sequence[str], step: int, *, seed: int = 0, factor: float = 1.0
) -> list[Metric]:
    """Return the metrics of one step: drawn numbers, the losses times `factor`; what a row lacks is not there."""
    draw = np.random.default_rng([seed, step])
    sg_loss, cosine, energy = (
        draw.random(len(channels)),
        draw.random(len(channels)),
        draw.random(len(channels)),
    )
    rows = []
    for index, name in enumerate(channels):
        found = {
            "sg_loss": factor * float(sg_loss[index]) * (1.5 - step / 100),
            "cosine": 2 * float(cosine[index]) - 1,
            "message_energy": float(energy[index]),
            "traffic": float(energy[index]) / 2,
            "age": float(index % 4),
            "peculiarity": float(index * step),
        }
        if index == WITHOUT_COSINE:
            del found["cosine"]
        rows += [Metric("channel", name, metric, value) for metric, value in found.items()]
    loss = draw.random(len(agents))
    for index, name in enumerate(agents):
        rows.append(Metric("agent", name, "loss", factor * float(loss[index])))
        rows.append(Metric("agent", name, "updates", float(step)))
    return rows


def samples(step: int) -> NDArray[np.float32]:
    """Return 40 messages of three components in four heaps, the label last."""
    draw = np.random.default_rng([9, step])
    label = np.arange(40) % LABELS
    centres = np.array([[0, 0, 0], [5, 0, 1], [0, 5, 2], [5, 5, 3]], dtype=np.float64) * step / 100
    return np.column_stack([centres[label] + draw.normal(0, 0.3, (40, 3)), label]).astype(np.float32)


def write_made(folder: Path, *, seed: int = 0, factor: float = 1.0, steps: Iterable[int] = STEPS) -> None:
    """Write a run of six agents and nine channels: clocks, frozen, parallel, lossy, delayed, a state."""
    recorder = TensorBoardRecorder(folder)
    recorder.begin(description(AGENTS, CHANNELS))
    names = [channel_name(channel) for channel in CHANNELS]
    for step in steps:
        recorder.metrics(step, metrics(list(AGENTS), names, step, seed=seed, factor=factor))
        if step in (1, 100):
            recorder.samples(step, [(names[index], samples(step)) for index in WITH_MESSAGES])
    recorder.end({"accuracy": 0.5, "seconds": 1.0})
    recorder.close()


def write_parts(folder: Path) -> None:
    """Write a run in three parts, of which the last is gone after step 50; the second is on a machine of a hostile name."""
    recorder = TensorBoardRecorder(folder)
    recorder.begin(made.description())
    names = [name for name, _ in made.description().names["channels"]]
    for step in STEPS:
        recorder.metrics(step, metrics(made.AGENTS, names, step))
        first, second, third = made.rows(step)
        recorder.parts(step, [first, replace(second, machine=HOSTILE[0]), third])
    recorder.close()


def write_hostile(folder: Path) -> None:
    """Write a run with names that would be markup, script, a formula or a path where they are not taken as text.

    It has data of the Channels tab alone: TensorBoard's own Images tab cannot show the pictures of a run of that name.
    """
    channels: list[Channel] = [(one, other, "", {}) for one, other in itertools.pairwise(HOSTILE)]
    about = {HOSTILE[0]: HOSTILE[1], "network": HOSTILE[2]}
    agents = {name: {"about": about} for name in HOSTILE}
    events = EventFile(folder, start=0)
    described = description(agents, channels, scenario=HOSTILE[0])
    writer = ChannelsWriter(events, described)
    writer.begin(described)
    names = [channel_name(channel) for channel in channels]
    for step in (1, 10):
        rows = metrics(HOSTILE, names, step)
        rows += [Metric("channel", name, HOSTILE[0], 1.0) for name in names]
        writer.metrics(step, rows)
    events.close()


def large_description(agents: int = 1000, per_agent: int = 4) -> RunDescription:
    """Return what is said of a graph in which each agent speaks to the next, and to some others anywhere."""
    names = [f"n{index:04}" for index in range(agents)]
    draw = np.random.default_rng(0)
    channels: list[Channel] = []
    for index, name in enumerate(names):
        far = draw.choice(agents - 2, per_agent - 1, replace=False) + 2 + index
        receivers = sorted([(index + 1) % agents, *(int(other) % agents for other in far)])
        channels += [(name, names[other], "", {"delay": 1 + other % 3}) for other in receivers]
    return description({name: {} for name in names}, channels, scenario="large")


def write_large(folder: Path, rows: int = 5) -> None:
    """Write a run of that graph, `rows` rows ten steps apart."""
    told = large_description()
    events = EventFile(folder, start=0)
    writer = ChannelsWriter(events, told)
    writer.begin(told)
    draw = np.random.default_rng(0)
    for row in range(rows):
        found = [
            Metric("channel", name, metric, float(draw.random()))
            for name, _ in told.names["channels"]
            for metric in ("sg_loss", "message_energy")
        ]
        writer.metrics(10 * row + 1, found)
    events.close()
