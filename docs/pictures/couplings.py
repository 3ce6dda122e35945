"""Draws when a sender learns from its messages, coupling by coupling: see `python docs/pictures/make.py`."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import antiphon
from antiphon.engine.metrics.timeline import timeline
from antiphon.telemetry import AgentTimes, ChannelTimes, Timeline

INK, FAINT, TRUE, SYNTHETIC, LATE, OWN = (
    "#22303c",
    "#a9b4bf",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#009e73",
)
COUPLINGS = {
    "locked": "both learn together, from the true gradient; a message that is read later returns none",
    "delayed": "the sender learns later, when the true gradient has returned",
    "decoupled": "the sender learns at once, from a predicted gradient; the true one trains the predictor",
    "local": "the sender learns at once, from a loss of its own; no gradient is returned",
    "detached": "the sender gets no gradient",
}
LOCAL = {"coupling": "decoupled", "gradient": {"kind": "local", "target": "label"}}
STEPS = 9


def couplings(coupling: str) -> Timeline:
    """A sender that ticks at every step and learns every second; a reader half as fast, one step away."""
    clocks = {"sender": {"unroll": 2}, "receiver": {"period": 2, "unroll": 2}}
    goal = {"kind": "classification", "target": "label"}
    scenario = antiphon.Scenario(
        scenario="couplings",
        env={"id": "antiphon/Digits-v0"},
        agents={
            name: {"observes": ["image"], "objective": goal, "clock": clock}
            for name, clock in clocks.items()
        },
        channels=[
            {
                "from": "sender",
                "to": "receiver",
                "size": 4,
                **(LOCAL if coupling == "local" else {"coupling": coupling}),
                "link": {"delay": 1},
            }
        ],
    )
    with antiphon.Simulation(scenario) as simulation:
        return timeline(simulation, 0, STEPS)


def draw(path: Path) -> None:
    """Draw all couplings under one another."""
    figure = Figure(figsize=(10.0, 10.4), facecolor="white", layout="constrained")
    for axes, (coupling, words) in zip(
        figure.subplots(len(COUPLINGS), 1), COUPLINGS.items(), strict=True
    ):
        found = couplings(coupling)
        axes.set_title(f"{coupling}: {words}", loc="left", fontsize=9.5, color=INK)
        axes.set(xlim=(-0.6, STEPS - 0.4), ylim=(-0.55, 1.75))
        axes.set_xticks(range(STEPS), range(1, STEPS + 1))
        axes.set_yticks([0, 1], ["receiver", "sender"])
        axes.tick_params(length=0, labelsize=8.5, labelcolor=INK)
        axes.spines[:].set_visible(False)
        agents = {agent.name: agent for agent in found.agents}
        for height, name in enumerate(("receiver", "sender")):
            _lane(axes, agents[name], height)
        _messages(axes, found.channels[0], OWN if coupling == "local" else SYNTHETIC)
    figure.legend(
        handles=[
            Line2D(
                [],
                [],
                linestyle="",
                marker="s",
                markersize=8,
                color=TRUE,
                label="forward pass",
            ),
            Line2D(
                [],
                [],
                linestyle="",
                marker="|",
                markersize=13,
                mew=2.5,
                color=SYNTHETIC,
                label="update of the parameters",
            ),
            Line2D(
                [], [], color=FAINT, label="message (x: replaced before it is read)"
            ),
            Line2D([], [], color=TRUE, linewidth=2, label="true gradient"),
            Line2D(
                [],
                [],
                color=LATE,
                linewidth=2,
                linestyle="--",
                label="true gradient, late",
            ),
            Line2D(
                [],
                [],
                color=SYNTHETIC,
                linewidth=2,
                linestyle=":",
                label="predicted gradient",
            ),
            Line2D(
                [],
                [],
                color=OWN,
                linewidth=2,
                linestyle=":",
                label="gradient of a local loss",
            ),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8.5,
    )
    figure.savefig(path, dpi=100)


def _lane(axes: Axes, agent: AgentTimes, height: int) -> None:
    axes.plot(
        [-0.5, STEPS - 0.5], [height, height], color="#e3e8ec", linewidth=2, zorder=0
    )
    ticks = [step for step in range(STEPS) if agent.ticks[step]]
    axes.scatter(ticks, [height] * len(ticks), s=80, marker="s", color=TRUE, zorder=3)
    ends = [step + 0.3 for step in range(STEPS) if agent.ends[step]]
    axes.vlines(
        ends, height - 0.25, height + 0.25, color=SYNTHETIC, linewidth=2.5, zorder=3
    )


def _messages(axes: Axes, channel: ChannelTimes, at_once: str) -> None:
    for tick, stamps in enumerate(channel.stamps):
        for stamp in stamps:
            _arrow(axes, (stamp, 0.85), (tick, 0.17), FAINT)
            if channel.cut[tick]:
                axes.text(tick + 0.08, 0.26, "no gradient", fontsize=8, color=INK)
    for stamp in range(STEPS):
        trained, back = int(channel.trained[stamp]), int(channel.back[stamp])
        if channel.unread[stamp]:
            axes.text(stamp, 0.62, "x", fontsize=9, color=INK, ha="center")
        if channel.coupling == "decoupled" and trained >= 0:
            _arrow(
                axes,
                (stamp - 0.12, 1.17),
                (trained + 0.3, 1.27),
                at_once,
                ":",
                bend=-1.2,
            )
        if 0 <= back < STEPS:
            late = channel.coupling != "locked"
            start = (back - 1 if late else back) + 0.3
            _arrow(
                axes,
                (start, 0.2),
                (back + 0.3, 0.75),
                LATE if late else TRUE,
                "--" if late else "-",
            )


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    style: str = "-",
    bend: float = 0.0,
) -> None:
    looks = {
        "arrowstyle": "->",
        "color": colour,
        "linestyle": style,
        "linewidth": 1.0 if colour == FAINT else 1.8,
        "connectionstyle": f"arc3,rad={bend}",
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", xy=end, xytext=start, arrowprops=looks, zorder=2)
