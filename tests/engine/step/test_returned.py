"""What a predictor is told of what came back: the newest gradient of a message, and the loss of its receiver's window."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.numbers import predictor_of
from tests.engine.scenes import CLASSIFY, scenario_of


def pair(**channel: Any) -> Simulation:
    agents = {"a": {"observes": ["image"]}, "b": {"objective": {**CLASSIFY, "when": "each"}}}
    env = channel.pop("env", {})
    told = {"from": "a", "to": "b", "size": 4, "gradient": {"context": ["label", "returned"]}, **channel}
    return Simulation(scenario_of(agents, [told], env))


@pytest.mark.parametrize(("delay", "lag"), [(0, 1), (1, 2), (2, 4)])
def test_it_is_the_newest_delta_that_had_arrived(delay: int, lag: int) -> None:
    """Sent at s over delay d: used at s + d, back at s + 2d, and known when the sender ticks after that."""
    simulation = pair(link={"delay": delay}, env={"hold": 20})
    ledger = simulation._system.channels["a->b"].ledger
    deltas: dict[int, torch.Tensor] = {}
    told: dict[int, torch.Tensor | None] = {}
    for _ in range(12):
        simulation.step()
        for stamp, record in ledger.records.items():
            told.setdefault(stamp, record.returned)
            if record.finished is not None and record.delta is not None:
                deltas[stamp] = record.delta
    for stamp, returned in told.items():
        expected = deltas.get(stamp - lag)
        if expected is None:
            assert returned is None, stamp
        else:
            assert returned is not None, stamp
            assert torch.equal(returned, expected), stamp
    assert sum(returned is not None for returned in told.values()) >= 12 - lag - 1


def test_it_is_nothing_after_an_episodes_end() -> None:
    simulation = pair(link={"delay": 1}, env={"hold": 4, "episode": "example"})
    ledger = simulation._system.channels["a->b"].ledger
    for step in range(12):
        simulation.step()
        returned = ledger.records[step].returned
        fresh = returned is None or not bool(returned.any())
        assert fresh == (step % 4 < 2), step


def test_where_the_link_lost_a_message_the_one_before_is_still_the_newest() -> None:
    simulation = pair(link={"drop": 0.5}, env={"hold": 50})
    ledger = simulation._system.channels["a->b"].ledger
    for _ in range(40):
        simulation.step()
    assert ledger.newest is not None
    assert bool(ledger.newest.any(1).all())


def test_a_predictor_sees_it() -> None:
    simulation = pair(env={"hold": 20})
    predictor = predictor_of(simulation, "a->b")
    assert predictor.parameters["last.weight"].shape == (4, 4 + 10 + 4)
    simulation.run(steps=5)
    assert bool(predictor.parameters["last.weight"][:, -4:].any())


TICKS = 3


def slow_pair(link: dict[str, Any]) -> Scenario:
    """The eye speaks once in three steps; the mind reads that message at each of its three ticks, and learns then."""
    agents = {
        "eye": {"observes": ["left_half"], "clock": {"period": TICKS}},
        "mind": {"observes": ["right_half"], "clock": {"unroll": TICKS}, "objective": CLASSIFY},
    }
    gradient = {"kind": "sobolev", "context": ["label"]}
    return scenario_of(
        agents, [{"from": "eye", "to": "mind", "size": 4, "gradient": gradient, "link": link}], batch=16
    )


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_the_loss_of_a_window_is_told_once(drop: float) -> None:
    with Simulation(slow_pair({"drop": drop})) as simulation:
        simulation.run(TICKS)
        (update,) = (u for u in simulation.learned.updates if u.group.members == ("mind",))
        (example,) = simulation.learned.predictor_updates["eye->mind"].examples
        assert update.window_loss.samples is not None
        assert example.loss is not None
        heard = torch.ones(16, dtype=torch.bool) if example.valid is None else example.valid
        assert bool(heard.any())
        assert torch.allclose(example.loss[heard], update.window_loss.samples[heard])
        assert not bool(example.loss[~heard].any())


def test_who_has_no_loss_of_its_own_returns_what_its_critic_expects() -> None:
    """The first critic of a chain hears the second's value, times its discount; the classifier's own loss goes back one hop."""
    gradient = {"kind": "sobolev", "context": ["label"], "discount": 0.5}
    channels = [{"from": a, "to": b, "size": 4, "gradient": gradient} for a, b in ("xy", "yz")]
    agents = {"x": {"observes": ["image"]}, "y": {}, "z": {"objective": CLASSIFY}}
    with Simulation(scenario_of(agents, channels, batch=16)) as simulation:
        simulation.run(5)
        twin = simulation.fork()
        simulation.step()
        near = simulation.learned.predictor_updates["y->z"].examples[0]
        far = simulation.learned.predictor_updates["x->y"].examples[0]
        critic = twin._system.channels["y->z"].predictor  # as it was before the step
        assert critic is not None
        value = critic.value(near)
        assert value.abs().max() > 0
        assert torch.allclose(far.loss, 0.5 * value)  # type: ignore[arg-type]
