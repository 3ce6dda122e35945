"""The event simulation of an asynchronous pipeline, against cases computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from antiphon.engine.planning.rivals.asynchronous_pipeline import asynchronous_pipeline, depths, stages_of
from antiphon.engine.planning.rivals.workload import MessageCost
from antiphon.errors import ScenarioError
from tests.engine.planning.rivals.chains import chain, cluster, placed


def test_one_stage_takes_its_passes_and_has_nothing_stale() -> None:
    found = asynchronous_pipeline(*stages_of(placed(chain(1), cluster())), 1)
    assert found.seconds == pytest.approx(3)
    assert set(found.staleness[0]) == {0}


def test_without_latency_all_stages_are_busy_and_stage_i_is_as_stale_as_stages_follow() -> None:
    """The steady state of 1F1B (PipeDream, section 3.2): S - i minibatches in flight at stage i."""
    found = asynchronous_pipeline(*stages_of(placed(chain(4), cluster())), 4)
    assert found.seconds == pytest.approx(3, rel=1e-9)
    assert {stage: stale[-1] for stage, stale in found.staleness.items()} == {0: 3, 1: 2, 2: 1, 3: 0}
    assert found.staleness[0][:5] == (0, 1, 2, 3, 3)  # the first minibatches have the first weights


def test_one_minibatch_in_flight_is_the_locked_chain() -> None:
    found = asynchronous_pipeline(*stages_of(placed(chain(4), cluster(latency=5.0))), 1)
    assert found.seconds == pytest.approx(4 * 3 + 2 * 3 * 5)
    assert {stale for stage in found.staleness.values() for stale in stage} == {0}


def test_the_first_update_takes_a_round_trip_and_the_others_follow() -> None:
    found = asynchronous_pipeline(*stages_of(placed(chain(2), cluster(latency=100.0))), 70)
    assert found.seconds_to(0) == 0
    assert found.seconds_to(1) == pytest.approx(2 * 3 + 200)
    assert found.seconds_to(11) == pytest.approx(2 * 3 + 200 + 10 * 3, rel=0.02)
    assert found.seconds_to(2000) == pytest.approx(2000 * 3 + 200, rel=0.02)


def test_few_in_flight_share_a_round_trip() -> None:
    """Far apart, K minibatches take a round trip, forward and back, once it is longer than what they compute."""
    found = asynchronous_pipeline(*stages_of(placed(chain(2), cluster(latency=100.0))), 4)
    assert found.seconds == pytest.approx((6 + 200) / 4, rel=1e-2)


def test_enough_in_flight_hide_the_links_and_are_stale() -> None:
    there = placed(chain(4), cluster(latency=30.0))
    most = depths(there)[-1]
    assert most == (4 * 3 + 2 * 3 * 30) / 3
    found = asynchronous_pipeline(*stages_of(there), most)
    assert found.seconds == pytest.approx(3, rel=0.02)
    assert found.staleness[0][-1] == most - 1
    assert set(found.staleness[3]) == {0}


def test_depths_are_from_the_number_of_stages_to_as_many_as_hide_the_links() -> None:
    assert depths(placed(chain(4), cluster())) == (4,)
    assert depths(placed(chain(4), cluster(latency=30.0))) == (4, 10, 25, 64)


def test_bandwidth_limits_the_rate() -> None:
    found = asynchronous_pipeline(*stages_of(placed(chain(2, nbytes=70.0), cluster(bandwidth=10.0))), 8)
    assert found.seconds == pytest.approx(7, rel=1e-2)


def test_a_branch_waits_for_both_messages_and_both_gradients() -> None:
    """s0 to s1 and s2, both to s3: one minibatch takes 3 stages there and back, the branches at the same time."""
    workload = replace(
        chain(4),
        messages=tuple(
            MessageCost(a, b, 0, 0.0) for a, b in (("s0", "s1"), ("s0", "s2"), ("s1", "s3"), ("s2", "s3"))
        ),
    )
    found = asynchronous_pipeline(*stages_of(placed(workload, cluster(latency=1.0))), 1)
    assert found.seconds == pytest.approx(3 * 3 + 4 * 1)


def test_stragglers_and_losses_slow_it_down_and_the_same_seed_gives_the_same() -> None:
    there = placed(
        chain(4),
        cluster(
            latency=1.0,
            loss=0.2,
            jitter=0.5,
            compute={"spread": 0.2, "stragglers": {"share": 0.1, "factor": 5}},
        ),
    )
    found, again, other = (asynchronous_pipeline(*stages_of(there), 4, seed=seed) for seed in (0, 0, 1))
    assert found == again
    assert found != other
    assert found.seconds > 3 * 1.4


def test_machines_that_send_to_each_other_are_no_pipeline() -> None:
    workload = replace(chain(2), messages=(MessageCost("s0", "s1", 0, 0.0), MessageCost("s1", "s0", 1, 0.0)))
    with pytest.raises(ScenarioError, match="no order of stages"):
        stages_of(placed(workload, cluster()))
