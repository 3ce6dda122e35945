"""Candidates for placements, and the best of them."""

from __future__ import annotations

import pytest

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.planning.rivals.best_placements import best_placements, candidates
from antiphon.engine.planning.rivals.learning_rules import DECOUPLED, LOCKED, with_rule
from antiphon.engine.planning.rivals.workload import Workload
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.envs.registry import describe
from antiphon.scenarios import load

CHAIN = load("digits-mlp").resolve(None, {"width": 8, "batch": 16, "depth": 4})
SCENARIO = with_rule(CHAIN, DECOUPLED, 1)
SYSTEM = build_to_look(SCENARIO, describe(CHAIN.env))
WORKLOAD = Workload.of(with_rule(CHAIN, LOCKED))
TWO_SITES = ClusterProfile(
    cluster="sites",
    machines={"slow": {"count": 4, "compute": {"flop": 3e-6}}, "quick": {"count": 3}},
    links=[
        {"between": ["slow", "slow"], "latency": 1.0},
        {"between": ["quick", "quick"], "latency": 1.0},
        {"between": ["slow", "quick"], "latency": 100.0},
    ],
    compute={"flop": 1e-6},
)


def test_candidates_are_all_machines_and_each_group_that_has_enough() -> None:
    found = [
        (one.profile.size, max(one.placement.values()) + 1)
        for one in candidates(SYSTEM, SCENARIO, TWO_SITES, 4)
    ]
    assert found == [(7, 2), (4, 2), (3, 2), (7, 3), (4, 3), (3, 3), (7, 4), (4, 4)]


def test_the_best_machines_are_the_quick_ones_that_are_near() -> None:
    found = {one.rival: one for one in best_placements(SYSTEM, SCENARIO, WORKLOAD, TWO_SITES, 4)}
    assert set(found) == {"locked", "1F1B pipeline", "data parallel", "decoupled"}
    for one in found.values():
        assert all(machine.startswith("quick-") for machine in one.machines)
    assert len(found["decoupled"].machines) == 3
    flop = [WORKLOAD.agents[name].flop for name in ("n0", "n1", "n2", "n3")]
    assert found["locked"].step_seconds == pytest.approx(
        1e-6 * sum(flop) + 2 * (len(found["locked"].machines) - 1)
    )
