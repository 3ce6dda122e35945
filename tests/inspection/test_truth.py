"""Probes (inspection/truth.py, rule 33a): true gradients, those of states too, against finite differences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Scenario, Simulation
from tests.engine.acting import ONE, Stage
from tests.engine.numbers import unchanged
from tests.engine.scenes import scenario_of
from tests.inspection.probed import EYE, JUDGE, chain, corporation, make
from tests.kit.running import newest_metrics
from tests.numerics.played import Played
from tests.numerics.recurring import GOAL, LINEAR, STATE, flags, played
from tests.numerics.recurring import make as recurring


def run_on(simulation: Simulation, horizon: int, channel: str, row: int, column: int, nudge: float) -> float:
    """The summed losses of a fork's next steps, nothing learned, with one component of a message moved."""
    twin = simulation.fork(stacked=False)
    now = twin.now
    for agent in twin.running.system.agents.values():
        agent.learner.trainable = []
    wire = twin.running.system.channels[channel].wire
    send = wire.outbox.send

    def moved(step: int, message: Tensor, moment: Any, *known: Any) -> Any:
        sent = send(step, message, moment, *known)
        if step == now:
            received = wire.inbox.messages[step]
            received.value = received.value.clone()
            received.value[row, column] += nudge
        return sent

    wire.outbox.send = moved  # type: ignore[method-assign]
    return sum(
        float(loss) for info in (twin.step() for _ in range(horizon + 1)) for loss in info["losses"].values()
    )


def check_by_differences(simulation: Simulation, horizon: int) -> dict[str, Tensor]:
    """Compare a component of true gradients, of many channels every second one's, with central differences; return them."""
    found = {name: probe.true for name, probe in simulation.probe(horizon).items()}
    batch = simulation.scenario.training.batch
    for number, (name, true) in list(enumerate(found.items()))[:: 2 if len(found) > 5 else 1]:
        row, column = number % batch, number % true.shape[1]
        loss = functools.partial(run_on, simulation, horizon, name, row, column)
        slope = (loss(1e-5) - loss(-1e-5)) / 2e-5 * batch
        assert float(true[row, column]) == pytest.approx(slope, abs=1e-8, rel=1e-6), name
    return found


def pair(eye: dict[str, Any], **channel: Any) -> Simulation:
    return make({"a": eye, "b": JUDGE}, [{"from": "a", "to": "b", **channel}])


SCENES: dict[str, tuple[Callable[[], Simulation], int, int]] = {
    "chain": (lambda: chain("decoupled", "layer"), 20, 0),
    "cycles": (lambda: corporation("decoupled"), 20, 3),
    # into an episode: what was sent before stands as numbers; channels of one port have a gradient each
    "port": (lambda: corporation("decoupled", port="out"), 17, 2),
    "noise": (lambda: corporation("decoupled", noise=0.3), 17, 2),  # a probe draws what the run draws
    "bits": (lambda: pair(EYE, link={"bits": 2}), 0, 0),  # of what arrives
    "frozen": (lambda: pair({**EYE, "learn": False}), 0, 0),
}
"""How it is made, how many steps it takes, and the horizon of its probes."""


@pytest.mark.cases(1)
@pytest.mark.parametrize("scene", SCENES)
def test_gradients_are_those_of_finite_differences(scene: str) -> None:
    make_one, steps, horizon = SCENES[scene]
    simulation = make_one()
    simulation.run(steps)
    found = check_by_differences(simulation, horizon)
    assert found.keys() == simulation.channels.keys()
    assert any(float(true.norm()) > 1e-3 for true in found.values())


@pytest.mark.parametrize(
    "other",
    [
        {"coupling": "decoupled", "agent": {"learn": 0.05}},
        {"coupling": "unlocked", "input": {"kind": "linear"}, "gradient": {"context": ["label"]}},
        {"coupling": "detached"},
        {"coupling": "delayed"},
    ],
    ids=str,
)
def test_how_agents_learn_has_no_say_in_the_truth(other: dict[str, Any]) -> None:
    plain, probes = chain("decoupled").probe(), chain(**other).probe()
    for name, probe in probes.items():
        assert torch.equal(probe.true, plain[name].true)
        if other["coupling"] in ("locked", "detached", "delayed"):  # no prediction
            assert (probe.synthetic, probe.alignment) == (None, {})


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("coupling", ["decoupled", "delayed", "locked"])
def test_a_probe_changes_no_bit_of_the_run_and_has_metrics_of_what_will_be_injected(
    coupling: str, stacked: bool
) -> None:
    simulation = Simulation(corporation(coupling).scenario, dtype=torch.float64, stacked=stacked)
    simulation.run(5)
    with unchanged(simulation):
        probes = simulation.probe(5)
    simulation.step()
    for name, probe in probes.items():
        if coupling == "decoupled":
            assert probe.synthetic is not None
            injected = newest_metrics(simulation, name)["injection_norm"]
            assert probe.synthetic.norm(dim=1).mean().item() == pytest.approx(injected, abs=1e-12)
            assert {"cosine", "norm_ratio", "r2", "bias2", "variance"} <= probe.alignment.keys()
            if probe.true.any():
                ratio = float(probe.synthetic.norm() / probe.true.norm())
                assert probe.alignment["norm_ratio"] == pytest.approx(ratio)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["a2c", "ppo"])
def test_the_truth_at_a_windows_start_is_what_a_policy_will_return(kind: str) -> None:
    ticks, adam = 4, {"kind": "adam", "lr": 0.01}
    net = {"network": {"kind": "mlp", "hidden": [4], "activation": "tanh"}, "clock": {"unroll": ticks}}
    motor = {**net, "observes": ["place"], "acts": True, "objective": {"kind": kind}}
    gradient = {"kind": "linear", "context": ["view", "reward"]}
    channel = {"from": "s", "to": "m", "size": 2, "norm": "none", "gradient": gradient}
    agents = {"s": {**net, "observes": ["view"]}, "m": motor}
    scenario = scenario_of(agents, [channel], Stage(ONE), batch=8, optimiser=adam, predictor=adam)
    with Simulation(scenario, dtype=torch.float64) as simulation:
        simulation.run(3 * ticks)
        probe = simulation.probe(ticks - 1)["s->m"]
        simulation.run(ticks)
        returned = simulation.channels["s->m"].messages[3 * ticks].gradient
        assert returned is not None
        assert torch.allclose(probe.true, returned, atol=1e-12)
        assert probe.true.abs().sum() > 0


def test_a_mean_over_a_window_is_divided_by_the_ticks_of_that_window() -> None:
    """Windows are episodes of 8 and 2 steps; the truth of the first message of each is the gradient that comes back for it."""
    noise = torch.Generator().manual_seed(0)
    shown = {n: torch.randn(20, 4, size, generator=noise).double() for n, size in (("x", 3), ("goal", 1))}
    mean = {"kind": "regression", "target": "goal", "reduction": "mean"}
    still = {"observes": ["x"], "clock": {"unroll": "episode"}, "optimiser": {"kind": "sgd", "lr": 1e-12}}
    scenario = Scenario(
        scenario="s",
        env=Played(shown, lengths=(8, 2)),
        agents={name: {**still, "objective": mean} for name in "ab"},
        channels=[{"from": "a", "to": "b", "size": 2, "gradient": {"context": ["goal"]}}],
        training={"batch": 4, "steps": 20, "predictor": {"lr": 1e-12}},
    )
    with Simulation(scenario, dtype=torch.float64) as simulation:
        for start, end in ((0, 8), (8, 10)):
            true = simulation.probe(0)["a->b"].true
            while simulation.now < end:
                simulation.step()
                returned = simulation.channels["a->b"].messages.get(start)
                assert simulation.now < end or returned is not None
            assert returned is not None
            assert returned.gradient is not None
            torch.testing.assert_close(true, returned.gradient, rtol=1e-6, atol=0)


# --- states ----------------------------------------------------------------------------------------------


MIND: dict[str, Any] = {"network": {"kind": "lstm", "size": 3}, "objective": GOAL}
TOLD = {"from": "a", "to": "b", "size": 2, "gradient": LINEAR, "link": {"delay": 1}}


def pair_with_states(unroll: int, **ends: Any) -> Simulation:
    """Two recurrent agents, the second of which hears the first."""
    others = {"b": {**MIND, "clock": {"unroll": 3}}}
    return recurring(played(**ends), LINEAR, unroll=unroll, others=others, channels=[TOLD])


def nudged(simulation: Simulation, steps: int, name: str, row: int, column: int, nudge: float) -> float:
    """The summed losses of a fork's next steps, nothing learned, one component of the next state moved."""
    twin = simulation.fork(stacked=False)  # its ends of channels and windows are read
    now, total = twin.now, 0.0
    for agent in twin.running.system.agents.values():
        agent.learner.trainable = []
    group = twin.running.system.group_by_agent[twin.running.system.channels[name].sender]
    for step in range(now, now + steps):
        twin.running.backend.tick(step, twin.world.step_signals)
        if step == now:  # it is passed on with its graph, or over the link
            received = twin.running.system.channels[name].wire.inbox.messages[now]
            moved = received.value.clone()
            moved[row, column] += nudge
            received.value = group.window.outputs_with_graph[name, now] = moved
        ends = twin.world.advance()
        for tick in (t for u in twin.running.system.groups for t in u.window.ticks() if t.step == step):
            found = twin.running.backend.objective_evaluator.tick_loss(tick)
            total += 0.0 if found is None else found[0].sum().item()
        twin.running.backend.learn(step, ends)
    return total


@pytest.mark.long
@pytest.mark.parametrize(
    ("unroll", "ends"), [(1, {"terminated": flags(0, 3)}), (2, {"endless": True})], ids=["ends", "endless"]
)
def test_the_truth_of_a_state_is_that_of_finite_differences(unroll: int, ends: dict[str, Any]) -> None:
    with pair_with_states(unroll, **ends) as simulation:
        simulation.run(8)  # an episode ends with the step after the next one
        probes = simulation.probe(horizon=3)
        assert set(probes) == {STATE, "b->b:state", "a->b"}
        for name in (STATE, "b->b:state"):
            true = probes[name].true
            for row, column in ((0, 1), (2, 2), (3, 0)):
                loss = functools.partial(nudged, simulation, 4, name, row, column)
                slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
                assert float(true[row, column]) == pytest.approx(slope, abs=1e-8, rel=1e-5), (name, row)
            assert float(true.norm()) > 1e-3
