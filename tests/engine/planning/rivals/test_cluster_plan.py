"""Plans of a small scenario on clusters."""

from __future__ import annotations

import json

import pytest

from antiphon.engine.planning.rivals.cluster_plan import RIVALS, ClusterPlan, plan_on_cluster
from antiphon.engine.planning.rivals.estimates import Estimate
from antiphon.engine.planning.rivals.measured_speed import measured_speed
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, load
from tests.engine.planning.rivals.chains import cluster


def digits(**values: object) -> Scenario:
    return load("digits-mlp").resolve(None, {"width": 32, "batch": 32, "depth": 3, **values})


def planned(profile: ClusterProfile, **settings: object) -> ClusterPlan:
    return plan_on_cluster(digits(), profile, **{"target": 40.0, "seeds": 1, "steps": 80, **settings})


def by_name(plan: ClusterPlan) -> dict[str, Estimate]:
    return {estimate.rival: estimate for estimate in plan.estimates}


@pytest.fixture(scope="module")
def far() -> ClusterPlan:
    """Machines that are 6 step times apart."""
    return planned(cluster(latency=6.0, compute={"step": 1.0, "flop": 0.0}))


def test_every_rival_has_a_row_and_every_figure_a_source(far: ClusterPlan) -> None:
    assert [estimate.rival for estimate in far.estimates] == list(RIVALS)
    for row in json.loads(json.dumps(far.as_dict()))["rivals"]:
        assert row["step_seconds"]["source"] in ("formula", "simulated")
        for name in ("seconds", "steps", "goodput"):
            assert row[name] is None or row[name]["source"] in ("formula", "simulated", "measured")
        assert (row["seconds"] is None) == (row["failure"] is not None)


def test_one_agent_is_on_each_machine(far: ClusterPlan) -> None:
    assert far.placement == {"n0": 0, "n1": 1, "n2": 2}
    assert far.machines == ("m-0", "m-1", "m-2")


def test_rivals_that_wait_have_the_steps_of_the_locked_scenario_and_times_by_hand(far: ClusterPlan) -> None:
    """Three machines of 1 s, two links of 6 s: locked 3 + 24; one machine 1; two copies 1 + 6."""
    found = by_name(far)
    times = {"one machine": 1.0, "locked": 27.0, "1F1B pipeline": 27.0, "data parallel": 7.0}
    for name, seconds in times.items():
        assert found[name].step_seconds == pytest.approx(seconds)
        assert found[name].steps == found["locked"].steps
        assert found[name].seconds == pytest.approx(seconds * (found["locked"].steps or 0))


def test_the_best_machines_of_even_ones_are_as_few_as_possible(far: ClusterPlan) -> None:
    """Calls cost 6 s each and a step 1 s wherever: two machines, of which the parts that do not wait take 1 s."""
    found = {one.rival: one for one in far.best}
    assert {len(one.machines) for one in found.values()} == {2}
    assert found["locked"].step_seconds == pytest.approx(2 + 12)
    assert found["decoupled"].step_seconds == pytest.approx(1)
    assert found["data parallel"].placement == {}


def test_rivals_that_hide_the_links_take_a_setting_that_was_tried(far: ClusterPlan) -> None:
    found = by_name(far)
    assert "in flight" in found["async pipeline"].setting
    assert (found["async pipeline"].seconds or 0) < (found["locked"].seconds or 0)
    assert found["local"].setting.startswith(("lockstep, delay ", "free"))


def test_the_verdict_compares_the_decoupled_run_with_all_others(far: ClusterPlan) -> None:
    assert far.verdict.startswith("On even decoupling ")
    assert all(name in far.verdict for name in RIVALS if name != "decoupled")


def test_a_target_that_is_not_reached_is_a_row_with_the_best_score() -> None:
    plan = planned(cluster(compute={"step": 1.0, "flop": 0.0}), target=99.9, steps=4)
    for estimate in plan.estimates:
        assert estimate.seconds is None
        assert "target not reached, best" in str(estimate.failure)
    assert "does not pay: it does not reach the target." in plan.verdict


def test_fewer_machines_have_several_agents() -> None:
    plan = planned(cluster(count=2, compute={"step": 1.0, "flop": 0.0}), steps=20, target=15.0)
    assert set(plan.placement.values()) == {0, 1}
    assert len(plan.placement) == 3


def test_a_batch_of_one_cannot_be_shared() -> None:
    scenario = load("digits-mlp").resolve(None, {"width": 8, "batch": 1, "depth": 2})
    plan = plan_on_cluster(scenario, cluster(count=2), target=50.0, seeds=1, steps=2)
    assert by_name(plan)["data parallel"].failure == "training.batch: 1; copies share a batch of 2 at least"
    assert "data parallel" not in {one.rival for one in plan.best}


def test_what_cannot_be_planned_is_one_line() -> None:
    profile = cluster(count=2)
    with pytest.raises(ScenarioError, match=r"parts: 3; even has 2 machines"):
        planned(profile, parts=3)
    with pytest.raises(ScenarioError, match=r"two machines at least"):
        planned(cluster(count=1))
    with pytest.raises(ScenarioError, match="no split 'test'"):
        plan_on_cluster(load("hyperplane").resolve(), profile, target=100.0)
    with pytest.raises(ScenarioError, match="acts"):
        plan_on_cluster(load("cartpole-team").resolve(), profile, target=100.0)


def test_a_measured_speed_is_a_line_through_two_batches() -> None:
    found = measured_speed(digits())
    assert found.agent > 0
    assert found.flop >= 0
    assert 1e-5 < found.seconds(3, 0.0) < 1.0


def test_agents_on_a_cycle_have_no_order_of_stages_and_run_in_lockstep_alone() -> None:
    """Episodes of 6 steps end, which parts that do not wait are at different steps of."""
    scenario = load("corporation").resolve(None, {"data": "digits", "agents": 6, "width": 8, "batch": 8})
    plan = plan_on_cluster(scenario, cluster(count=3), target=5.0, seeds=1, steps=12)
    found = by_name(plan)
    assert "no order of stages" in str(found["async pipeline"].failure)
    assert found["decoupled"].setting.startswith("lockstep")
    assert found["locked"].seconds is not None
