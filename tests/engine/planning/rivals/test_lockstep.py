"""Simulated step times of parts in lockstep, against cases computed by hand."""

from __future__ import annotations

import pytest

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.core.system import System
from antiphon.engine.parts.placement import agent_costs, message_bytes
from antiphon.engine.planning.rivals.learning_rules import DECOUPLED, LOCAL, with_rule
from antiphon.engine.planning.rivals.lockstep import delays, lockstep, part_seconds
from antiphon.engine.planning.rivals.placed import MeasuredSpeed
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.envs.registry import describe
from antiphon.scenarios import load
from tests.engine.planning.rivals.chains import cluster

CHAIN = load("digits-mlp").resolve(None, {"width": 8, "batch": 16, "depth": 4})
PLACE = {"n0": 0, "n1": 0, "n2": 1, "n3": 1}


def system(rule: str, delay: int) -> System:
    return build_to_look(with_rule(CHAIN, rule, delay), describe(CHAIN.env))


def test_a_part_computes_its_agents_and_the_synthetic_gradients_it_sends_by() -> None:
    found = part_seconds(system(DECOUPLED, 1), PLACE, cluster(compute={"step": 0.5, "flop": 1e-6}))
    costs = agent_costs(system(DECOUPLED, 1))
    assert found[0] == pytest.approx(0.5 + 1e-6 * (costs["n0"] + costs["n1"]))
    assert found[1] == pytest.approx(0.5 + 1e-6 * (costs["n2"] + costs["n3"]))


@pytest.mark.parametrize("delay", [1, 4, 12])
def test_a_call_is_waited_for_once_in_as_many_steps_as_the_delay(delay: int) -> None:
    """Steps of 1 s and calls of 5 s: max(1, (1 + 5) / delay)."""
    profile = cluster(latency=5.0, compute={"step": 1.0, "flop": 0.0})
    found = lockstep(system(DECOUPLED, delay), PLACE, profile)
    assert found.seconds == pytest.approx(max(1.0, 6 / delay))
    assert found.setting == f"delay {delay}"


def test_messages_are_no_quicker_than_the_link() -> None:
    """Messages and the signals that cross with them take their bytes over the bandwidth, whatever the delay."""
    decoupled = system(DECOUPLED, 1)
    seconds = message_bytes(decoupled, decoupled.channels["n1->n2"]) / 64
    assert seconds > 16 * 8 * 4 / 64  # 16 messages of 8 floats
    profile = cluster(bandwidth=64.0, compute={"step": 1.0, "flop": 0.0})
    assert lockstep(system(DECOUPLED, 100), PLACE, profile).seconds == pytest.approx(seconds, rel=0.01)


def test_all_wait_for_the_slowest_and_for_failures() -> None:
    profile = cluster(
        compute={"step": 1.0, "flop": 0.0, "stragglers": {"share": 0.1, "factor": 11}},
        failures={"per_day": 86.4, "outage": 50, "checkpoint": 100},
    )
    slowest = 1 + 10 * (1 - 0.9**2)
    lost = 2 * 1e-3 * (50 + 50 * slowest)
    found = lockstep(system(LOCAL, 1), PLACE, profile)
    assert found.seconds == pytest.approx(slowest * (1 + lost), rel=0.03)
    ahead = lockstep(system(LOCAL, 8), PLACE, profile)
    assert 2 < ahead.seconds < 0.9 * found.seconds  # a straggler is caught up with


def test_delays_are_from_one_to_as_many_steps_as_a_call_takes() -> None:
    profile = cluster(latency=26.0, compute={"step": 1.0, "flop": 0.0})
    assert delays(system(DECOUPLED, 1), PLACE, profile) == (1, 3, 9, 27)
    assert delays(system(DECOUPLED, 1), PLACE, cluster(compute={"step": 1.0, "flop": 0.0})) == (1,)


def test_measured_machines_take_a_time_for_each_agent() -> None:
    profile = ClusterProfile(
        cluster="here",
        machines={"m": {"count": 2}},
        links=[{"between": ["m", "m"]}],
        compute={"measure": True},
    )
    found = part_seconds(system(LOCAL, 1), {**PLACE, "n1": 1}, profile, MeasuredSpeed(agent=2.0, flop=0.0))
    assert found == {0: pytest.approx(2.0), 1: pytest.approx(6.0)}
