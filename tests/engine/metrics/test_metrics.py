"""Metrics, samples and recordings of a run against values by hand, those of policies too; looking changes no bit of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

import antiphon
from antiphon import Simulation
from antiphon.scenarios import Scenario, load
from antiphon.scenarios.training import OF_AGENTS
from antiphon.telemetry import Metric, Recorder
from antiphon.telemetry.history import History
from tests.engine.numbers import unchanged
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of
from tests.kit.running import newest_metrics
from tests.reference.backend import reference


def ring(link: Mapping[str, Any] | None = None, *, telemetry: Any = None, **channel: Any) -> Scenario:
    """Four agents in a ring that each see the image and name its label."""
    network = {"kind": "mlp", "hidden": [8], "norm": "none"}
    agent = {"observes": ["image"], "network": network, "objective": CLASSIFY}
    one = {"size": 4, "norm": "none", "link": {"delay": 1, **(link or {})}, **channel}
    channels = [{"from": f"a{i}", "to": f"a{(i + 1) % 4}", **one} for i in range(4)]
    agents = {f"a{i}": agent for i in range(4)}
    every = {"period": 3, **(telemetry or {})}
    return scenario_of(agents, channels, readout="a0", telemetry=every, batch=6, steps=30)


class Listener(Recorder):
    """Keeps metrics and samples by step."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[tuple[str, str, str], float]] = {}
        self.messages: dict[int, dict[str, Any]] = {}

    def metrics(self, step: int, rows: Any) -> None:
        assert all(isinstance(row, Metric) and not math.isinf(row.value) for row in rows)
        assert len({row[:3] for row in rows}) == len(rows), "a metric comes once"
        self.rows[step] = {row[:3]: row.value for row in rows}

    def samples(self, step: int, rows: Any) -> None:
        self.messages[step] = dict(rows)


def listening(scenario: Scenario, steps: int, **settings: Any) -> tuple[Simulation, Listener]:
    simulation, listener = Simulation(scenario, **settings), Listener()
    simulation.recorders.append(listener)
    simulation.run(steps)
    return simulation, listener


def test_the_entropy_and_the_traffic_of_symbols() -> None:
    simulation, found = listening(ring(size=None, sample={"kind": "gumbel", "vocabulary": 4, "size": 2}), 1)
    entropies = []
    for name, channel in simulation.channels.items():
        shares = channel.messages[0].value.view(6, 2, 4).mean(0)
        entropies.append(float(torch.special.entr(shares).sum() / 2 / math.log(2)))
        assert found.rows[1]["channel", name, "symbol_entropy"] == pytest.approx(entropies[-1], abs=1e-5)
        assert found.rows[1]["channel", name, "traffic"] == pytest.approx(2 * math.log2(4))
    assert len(set(entropies)) > 1


def test_metrics_of_a_message_leave_out_the_padding_of_sequences() -> None:
    """At the third step, 3 of 8 sequences go on; a message over padding is not zero, by its bias."""
    lengths = [3, 1, 2, 3, 1, 2, 3, 1]
    x = [torch.randn(length, 2, generator=torch.Generator().manual_seed(length)) for length in lengths]
    data = {"x": x, "y": [torch.zeros(length, 1) for length in lengths]}
    env = antiphon.envs.from_sequences(**data, test=data, validation=data, training_only=["y"])
    agents = {
        "a": {"observes": ["x"]},
        "b": {"objective": {"kind": "regression", "target": "y"}, "clock": {"unroll": "episode"}},
    }
    channel = {"from": "a", "to": "b", "size": 3, "coupling": "detached"}
    scenario = scenario_of(agents, [channel], env, batch=8, telemetry={"period": 1})
    with Simulation(scenario) as simulation:
        head = simulation.agents["a"].parameters["to_b.bias"].data.fill_(1.0)
        found = Listener()
        simulation.recorders.append(found)
        simulation.run(3, progress=False)
        message = simulation.channels["a->b"].messages[2].value
        sent = message[~(message == message.mode(0).values).all(1)]  # five rows over padding are equal
        assert (len(sent), float(head[0])) == (3, 1.0)
    row = {metric: value for (_, name, metric), value in found.rows[3].items() if name == "a->b"}
    assert row["message_mean"] == pytest.approx(sent.mean().item(), abs=1e-6)
    assert row["message_std"] == pytest.approx(sent.std(correction=0).item(), rel=1e-5)


@pytest.mark.cases(1)
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
def test_losses_in_training_and_evaluation_are_before_the_scale(reduction: str) -> None:
    """Three times the loss at a third of the rate is the same training."""
    logged, scores = [], []
    for scale in (1, 3):
        goal = {"kind": "classification", "target": "odd", "scale": scale, "reduction": reduction}
        agents = {"a": {"observes": ["image"], "network": LINEAR_MAP, "objective": goal}}
        scenario = scenario_of(
            agents,
            env={"id": "antiphon/CountDigits-v0", "window": 2},
            telemetry={"period": 5},
            optimiser={"kind": "sgd", "lr": 0.03 / scale},
            evaluate={"period": 10, "split": "validation"},
            steps=10,
        )
        with Simulation(scenario, dtype=torch.float64) as simulation:
            history = simulation.run(progress=False)
            logged.append([history.of("a", metric)[1].tolist() for metric in ("loss", "validation_loss")])
            scores.append(simulation.evaluate().agents["a"]["loss"])
    for plain, scaled in zip(*logged, strict=True):
        assert scaled == pytest.approx(plain, rel=1e-9)
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)


def test_samples_are_the_newest_messages_with_their_labels_those_to_readouts_first() -> None:
    simulation = Simulation(ring(telemetry={"max": 2}), seed=1)
    listener, label = Listener(), simulation.signals["label"]
    simulation.recorders.append(listener)
    simulation.run(1)
    found = listener.messages[1]
    assert list(found) == ["a3->a0", "a0->a1"]
    message = simulation.channels["a3->a0"].messages[0].value.detach().numpy()
    np.testing.assert_allclose(found["a3->a0"][:, :-1], message, rtol=1e-6)
    np.testing.assert_array_equal(found["a3->a0"][:, -1], label.numpy())


def test_entries_come_at_the_first_step_every_so_many_and_the_last() -> None:
    """Messages at the first ten entries, at every tenth, and at the last."""
    _, found = listening(ring(), 62, seed=5)
    assert list(found.rows) == [1, *range(3, 61, 3), 62]
    assert list(found.messages) == [1, *range(3, 31, 3), 60, 62]


def test_a_loss_is_the_mean_since_the_row_before() -> None:
    with Simulation(ring(), seed=5) as simulation:
        history = simulation.history
        losses = [float(simulation.step()["losses"]["a0"]) for _ in range(9)]
        steps, values = history.of("a0", "loss")
    assert steps.tolist() == [1, 3, 6, 9]
    means = [losses[0], np.mean(losses[1:3]), np.mean(losses[3:6]), np.mean(losses[6:9])]
    assert values == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize(("delay", "period"), [(0, 3), (3, 2)])
def test_age_is_counted_from_the_newest_message_that_has_crossed(delay: int, period: int) -> None:
    net = {"kind": "mlp", "hidden": [4], "norm": "none"}
    agents = {
        "a": {"observes": ["image"], "network": net, "clock": {"period": period}},
        "b": {"network": net, "objective": CLASSIFY},
    }
    link = {"from": "a", "to": "b", "size": 3, "norm": "none", "link": {"delay": delay}}
    with Simulation(scenario_of(agents, [link], telemetry={"period": 1}, batch=4, steps=12)) as simulation:
        history = simulation.history
        simulation.run()
        steps, ages = history.of("a->b", "age")
    sent = range(0, 12, period)
    expected = {
        now + 1: now - max(stamp for stamp in sent if stamp + delay <= now) for now in range(delay, 12)
    }
    assert dict(zip(steps.tolist(), ages.tolist(), strict=True)) == expected


# --- the graph, a channel's metrics, recordings ------------------------------------------------------------


def eyes(**values: Any) -> Simulation:
    return Simulation(load("eyes").resolve(values={"width": 5, "size": 3, "batch": 4, **values}))


def test_a_channel_is_measured_without_a_change() -> None:
    simulation = eyes()
    simulation.run(3)
    with unchanged(simulation):
        found = newest_metrics(simulation, "left->mind")
    assert found["age"] == 0
    assert {"cosine", "norm_ratio", "sg_loss", "age", "message_mean", "message_std"} <= set(found)
    one = eyes(batch=1, size=1)
    one.run(2)
    assert newest_metrics(one, "left->mind")["message_std"] == 0.0


# --- the newest since the entry before -------------------------------------------------------------------


OF_POLICIES = ("policy_loss", "value_loss", "entropy", "explained_variance", "approx_kl", "clip_fraction")
MEANS = {*OF_AGENTS, *OF_POLICIES, "value_target"}
"""Over all steps since the previous entry."""


def scene(eye: dict[str, Any], mind: dict[str, Any], period: int, **channel: Any) -> antiphon.Scenario:
    """Two agents and a channel, whose metrics are logged every so many steps."""
    predicted = {} if channel.get("coupling") == "delayed" else {"gradient": {"context": ["label"]}}
    sends = {"from": "eye", "to": "mind", "size": 4, **predicted, **channel}
    network = {"kind": "mlp", "hidden": [4]}
    return antiphon.Scenario.model_validate(
        {
            "scenario": "beats",
            "env": {"id": "antiphon/Digits-v0", "hold": 4},
            "agents": {
                "eye": {"observes": ["image"], "network": network, **eye},
                "mind": {"objective": {"kind": "classification", "target": "label"}, **mind},
            },
            "channels": [sends],
            "training": {
                "steps": 24,
                "batch": 4,
                "optimiser": {"kind": "adam", "lr": 0.01, "schedule": "linear"},
            },
            "telemetry": {"period": period},
        }
    )


def clock(**keys: Any) -> dict[str, Any]:
    return {"clock": keys}


SCENES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "windows and a delay": (clock(unroll=4), clock(unroll=4), {"link": {"delay": 1}}),
    "a slow sender": (clock(period=3), {}, {}),
    "slow both": (clock(period=4, phase=1), clock(period=3, unroll=2), {"link": {"delay": 2}}),
    "nothing returns": (clock(unroll=7), {}, {"gradient": {"kind": "local", "target": "label"}}),
    "a synthetic input": (
        clock(period=3),
        clock(period=2),
        {"coupling": "unlocked", "input": {"kind": "mlp", "context": ["image"]}, "link": {"delay": 1}},
    ),
    "late credit": (
        clock(unroll=4),
        clock(period=4, unroll=2),
        {"coupling": "delayed", "link": {"delay": 2}},
    ),
    "late credit of rare messages": (
        clock(period=4, unroll=1),
        clock(period=2, unroll=3),
        {"coupling": "delayed", "link": {"delay": 1}, "horizon": 8},
    ),
    "late credit of a quick sender": ({}, clock(unroll=6), {"coupling": "delayed"}),
    "sampled windows": ({"learn": 0.3, **clock(unroll=3)}, {"learn": 0.5}, {}),
}


def logged(scenario: antiphon.Scenario, steps: int = 24, **settings: Any) -> dict[Any, dict[int, float]]:
    """Values by step, of each metric of an agent or channel."""
    with antiphon.Simulation(scenario, dtype=torch.float64, **settings) as simulation:
        found: dict[Any, dict[int, float]] = {}
        for step, kind, name, metric, value in simulation.run(steps, progress=False):
            if kind in ("agent", "channel") and metric not in MEANS:
                found.setdefault((kind, name, metric), {})[step] = value
        return found


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", SCENES)
def test_an_entry_has_the_newest_value_since_the_one_before(name: str) -> None:
    eye, mind, channel = SCENES[name]
    each = logged(scene(eye, mind, 1, **channel))
    rows = logged(scene(eye, mind, 8, **channel))
    assert rows.keys() == each.keys()
    assert ("agent", "eye", "learning_rate") in rows
    assert ("channel", "eye->mind", "injection_norm") in rows
    entries = (1, 8, 16, 24)
    for metric, values in each.items():
        for before, entry in zip((0, *entries), entries, strict=False):
            between = [step for step in values if before < step <= entry]
            if name != "sampled windows":
                assert (entry in rows[metric]) is bool(between), (metric, entry)
            if entry in rows[metric]:  # of chance: as far as it fell within a window of the entry
                assert rows[metric][entry] == values[between[-1]], (metric, entry)


# --- policies --------------------------------------------------------------------------------------------


OF_PPO = {"policy_loss", "value_loss", "entropy", "explained_variance", "approx_kl", "clip_fraction"}


def poles(kind: str = "ppo", every: int = 6, **goal: Any) -> Scenario:
    goal = {"kind": kind, **({"epochs": 2, "minibatches": 2} if kind == "ppo" else {}), **goal}
    motor = {
        "observes": ["observation"],
        "network": {"kind": "mlp", "hidden": [4]},
        "acts": True,
        "objective": goal,
        "clock": {"unroll": 4},
    }
    env = {"id": "antiphon/CartPole-v0", "limit": 5}
    return scenario_of({"motor": motor}, env=env, batch=3, steps=12, telemetry={"period": every})


def rows(simulation: Simulation, steps: int) -> list[tuple[int, str, float]]:
    history = History()
    simulation.recorders.append(history)
    simulation.run(steps)
    return [(row.step, row.metric, row.value) for row in history if row.name == "motor"]


def test_a_row_has_the_mean_over_its_windows() -> None:
    with Simulation(poles(every=4)) as simulation:
        windows = rows(simulation, 12)
    with Simulation(poles(every=12)) as simulation:
        together = {metric: value for step, metric, value in rows(simulation, 12) if step == 12}
    assert together.keys() >= OF_PPO
    for name in OF_PPO:
        each = [value for step, metric, value in windows if metric == name and step > 1]
        assert len(each) == 3
        assert together[name] == pytest.approx(sum(each) / 3, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["ppo", "reinforce"])
@pytest.mark.parametrize("settings", [{}, {"backend": reference}], ids=["cohort", "reference"])
def test_the_return_in_the_log_is_that_of_episodes_and_the_values_target_is_another_metric(
    kind: str, settings: dict[str, Any]
) -> None:
    """Rewards are 1 a step for at most 5 steps: no return is more, and of running episodes it is the step.

    Every entry has it, also before the first window of reinforce, which learns from an episode that has ended.
    """
    history = History()
    with Simulation(poles(kind, every=4, discount=1.0), **settings) as simulation:
        simulation.recorders.append(history)
        simulation.run()
    returns, targets = (
        dict(zip(*history.of("motor", name), strict=True)) for name in ("return", "value_target")
    )
    assert returns == {1: 1.0, 4: 4.0, 8: 5.0, 12: 5.0}
    assert dict(zip(*history.of("", "episode_return"), strict=True)) == {8: 5.0, 12: 5.0}
    assert targets.keys() == returns.keys() - ({1, 4} if kind == "reinforce" else {1})
    assert not targets.items() & returns.items()
