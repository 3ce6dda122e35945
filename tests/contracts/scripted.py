"""A running simulation of a scene of the event simulator, and what can be seen of it from outside.

Each agent reads, at each step and in each environment, a one-hot number of its own: a column of its first weights moves
exactly where what it did at that step, in that environment, has a gradient. Predictors and synthetic inputs see the same
number: a column of theirs moves where they learn what was sent then. Predictors start away from zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.nets.random import generator, seed_for, uniform
from antiphon.scenarios import Scenario
from tests.contracts.event_scene import Place, Prediction, Scene, state_of
from tests.contracts.event_simulator import simulate
from tests.numerics.played import Played

P_UPDATE = 0.6
KINDS = ("leaky", "rnn", "gru", "lstm")


def source_of(scene: Scene) -> Played:
    """Environments that end as a scene says, and show `now`, one-hot of (step, environment)."""
    steps, rows = scene.horizon, scene.batch
    goal = torch.stack([2 + uniform(7, step, rows).double().unsqueeze(1) for step in range(steps)])
    now = torch.eye(steps * rows, dtype=torch.float64).view(steps, rows, -1)
    ends = [
        [[scene.ends.get((t, b)) is kind for b in range(rows)] for t in range(steps)]
        for kind in (True, False)
    ]
    return Played({"now": now, "goal": goal}, ("goal",), *map(torch.tensor, ends), lengths=scene.lengths)


def scenario_of(scene: Scene, kinds: Mapping[str, str], sparse: frozenset[str]) -> Scenario:
    """The scene as a scenario; `kinds` are those of the cells of agents that have a state."""
    agents: dict[str, Any] = {}
    for name, clock in scene.clocks.items():
        network: dict[str, Any] = {"kind": "mlp", "hidden": [], "norm": "none"}
        if name in kinds:
            network = {"kind": kinds[name], "size": 2}
        unroll = "episode" if clock.unroll is None else clock.unroll
        agents[name] = {
            "observes": ["now"],
            "network": network,
            "clock": {"period": clock.period, "phase": clock.phase, "unroll": unroll},
            "learn": P_UPDATE if name in sparse else 1.0,
        }
        if name in scene.judged:
            agents[name]["objective"] = {"kind": "regression", "target": "goal"}
    gradient = {"kind": "linear", "context": ["now"]}
    channels: list[dict[str, Any]] = []
    for link in scene.links:
        way: dict[str, Any] = {"delay": link.delay, "drop": link.drop}
        if link.back is not None:
            way["delay"] = [link.delay, link.back]
        channels.append(
            {
                "from": link.sender,
                "to": link.receiver,
                "size": 1,
                "norm": "none",
                "coupling": link.coupling,
                "link": way,
                "read": link.read,
                "horizon": link.staleness,
                "gradient": gradient,
                "input": {"context": ["now", "held", "age"]} if link.stand_in else None,
            }
        )
    for name, coupling in scene.memories.items():
        channels.append(
            {"from": name, "to": name, "key": "state", "coupling": coupling, "gradient": gradient}
        )
    return Scenario.model_validate(
        {
            "scenario": "contract",
            "env": source_of(scene),
            "agents": agents,
            "channels": channels,
            "training": {
                "batch": scene.batch,
                "steps": scene.horizon,
                "optimiser": {"kind": "sgd", "lr": 1e-4},
            },
        }
    )


Cells = frozenset[tuple[int, int]]
"""Some (step, environment)."""


@dataclass
class Seen:
    """What was seen of a run."""

    credited: dict[tuple[str, int], Cells] = field(default_factory=dict)
    """By (agent, step at which it learned): the (tick, environment) with a gradient."""
    taught: dict[tuple[str, int], Cells] = field(default_factory=dict)
    """By (channel, step at which its predictor learned): the (stamp, environment) of what it learned."""
    heard: dict[tuple[str, int], Cells] = field(default_factory=dict)
    """The same of synthetic inputs."""
    finished: dict[tuple[str, int], tuple[int, frozenset[int], frozenset[int]]] = field(default_factory=dict)
    """By (channel, stamp) whose gradient is whole: the step since when, the environments that count, and those that have any."""


def running(scene: Scene, kinds: Mapping[str, str], sparse: frozenset[str] = frozenset()) -> Simulation:
    """Build the scene's simulation, its predictors away from zero."""
    simulation = Simulation(scenario_of(scene, kinds, sparse), dtype=torch.float64)
    for name, channel in simulation.channels.items():
        if channel.synthetic_gradient is not None:
            for key, p in channel.synthetic_gradient.parameters.items():
                drawn = torch.rand(p.shape, generator=generator(1, name, key), dtype=torch.float64)
                p.data.copy_(0.2 + 0.5 * drawn)
    return simulation


def watched(scene: Scene, kinds: Mapping[str, str], sparse: frozenset[str] = frozenset()) -> Seen:
    """Run a scene and note who learned what when."""
    seen = Seen()
    with running(scene, kinds, sparse) as simulation:
        models = models_of(simulation)
        before = weights_of(models, scene)
        for step in range(scene.horizon):
            simulation.step()
            after = weights_of(models, scene)
            for (what, name), weight in after.items():
                moved = columns(weight != before[what, name], scene)
                if moved:
                    getattr(seen, what)[name, step] = moved
            before = after
            for name, channel in simulation.channels.items():
                for stamp, message in channel.messages.items():
                    if message.complete and message.finished is not None:
                        counted = message.counted
                        has = counted & False if message.gradient is None else message.gradient.ne(0).any(1)
                        rows = (frozenset(each.nonzero().flatten().tolist()) for each in (counted, has))
                        seen.finished[name, stamp] = message.finished, *rows  # type: ignore[assignment]
    return seen


def models_of(simulation: Simulation) -> dict[tuple[str, str], Any]:
    """By the name of a field of `Seen` and of an agent or channel: who learns what it says."""
    models: dict[tuple[str, str], Any] = {
        ("credited", name): agent for name, agent in simulation.agents.items()
    }
    for name, channel in simulation.channels.items():
        for what, model in (("taught", channel.synthetic_gradient), ("heard", channel.synthetic_input)):
            models |= {} if model is None else {(what, name): model}
    return models


def weights_of(models: dict[tuple[str, str], Any], scene: Scene) -> dict[tuple[str, str], Tensor]:
    """Copies of the weights that read the one-hot number, those of an agent one below the other."""
    count = scene.horizon * scene.batch
    found = {}
    for (what, name), model in models.items():
        wide = [p for p in model.parameters.values() if p.dim() == 2 and p.shape[1] >= count]
        first = wide[0].shape[1] - count if what == "taught" else 0  # behind the message
        found[what, name] = torch.cat([p.detach()[:, first : first + count] for p in wide])
    return found


def columns(moved: Tensor, scene: Scene) -> Cells:
    """The (step, environment) whose column has moved in some weight."""
    return frozenset(divmod(number, scene.batch) for number in moved.any(0).nonzero().flatten().tolist())


def undrawn(names: frozenset[str], horizon: int) -> set[tuple[str, int]]:
    """The (agent, window) in which agents that learn now and then do not."""
    return {
        (name, window)
        for name in names
        for window in range(horizon)
        if uniform(seed_for(0, "update", name), window, 1).item() >= P_UPDATE
    }


def lost(scene: Scene) -> set[Place]:
    """The (channel, stamp, environment) that the links lose."""
    return {
        (link.name, stamp, row)
        for link in scene.links
        for stamp in range(scene.horizon)
        for row, drawn in enumerate(uniform(seed_for(0, "link", link.name), stamp, scene.batch).tolist())
        if drawn < link.drop
    }


def expected_finished(
    scene: Scene, found: Prediction
) -> dict[tuple[str, int], tuple[int, frozenset[int], frozenset[int]]]:
    """What the event simulator says of messages whose gradient is whole."""
    learning = {link.name for link in scene.links if link.coupling in ("decoupled", "unlocked", "delayed")}
    return {
        at: (fate.finished, frozenset(row for _, row in fate.counted), found.moved[at])
        for at, fate in found.fates.items()
        if at[0] in learning and fate.state == "complete" and fate.finished is not None
    }


def expected_lessons(scene: Scene, found: Prediction) -> dict[tuple[str, int], Cells]:
    """What the event simulator says that each predictor learns at each step."""
    couplings = {x.name: x.coupling for x in scene.links}
    couplings |= {state_of(a): c for a, c in scene.memories.items()}
    lessons: defaultdict[tuple[str, int], Cells] = defaultdict(frozenset)
    for (name, stamp), fate in found.fates.items():
        if couplings[name] in ("decoupled", "unlocked") and fate.back is not None:
            lessons[name, fate.back] |= {(stamp, row) for row in fate.rows}
    for (name, stamp, step), rows in found.last.items():
        lessons[name, step] |= {(stamp, row) for row in rows}
    return dict(lessons)


def agree(scene: Scene, kinds: Mapping[str, str], sparse: frozenset[str] = frozenset()) -> None:
    """Hold a running simulation to the event simulator."""
    scene = replace(scene, undrawn=undrawn(sparse, scene.horizon), lost=lost(scene))
    found, seen = simulate(scene), watched(scene, kinds, sparse)
    assert seen.credited == found.credited, scene
    assert seen.taught == expected_lessons(scene, found), scene
    names = {link.name for link in scene.links if link.coupling in ("decoupled", "unlocked", "delayed")}
    finished = {at: fate for at, fate in seen.finished.items() if at[0] in names}
    assert finished == expected_finished(scene, found), scene
    heard: defaultdict[tuple[str, int], Cells] = defaultdict(frozenset)
    for (name, tick, row), stamp in found.heard.items():
        heard[name, tick] |= {(stamp, row)}
    assert seen.heard == dict(heard), scene
