"""Step times of rivals that wait, against cases computed by hand."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest

from antiphon.engine.core.clock import Clock
from antiphon.engine.planning.rivals.placed import (
    MeasuredSpeed,
    PlacedWorkload,
    availability,
    call_seconds,
    expected_slowest,
)
from antiphon.engine.planning.rivals.step_times import data_parallel, model_parallel, one_machine, pipeline
from antiphon.engine.planning.rivals.workload import AgentCost, MessageCost, Workload
from antiphon.engine.virtual.profile import ClusterProfile, ComputeSpec, LinkSpec
from tests.engine.planning.rivals.chains import chain, cluster, placed


@pytest.mark.parametrize(("stages", "latency"), [(1, 5.0), (4, 0.0), (4, 5.0), (8, 0.25)])
def test_model_parallel_chain_is_the_sum_of_compute_and_of_the_links_there_and_back(
    stages: int, latency: float
) -> None:
    found = model_parallel(placed(chain(stages), cluster(latency=latency)))
    assert found.seconds == pytest.approx(stages * 3 + 2 * (stages - 1) * latency)
    assert found.goodput == pytest.approx(3 / found.seconds)  # each of the machines computes 3 s of a step


def test_messages_take_their_bytes_over_the_bandwidth() -> None:
    found = model_parallel(placed(chain(3, nbytes=100.0), cluster(latency=1.0, bandwidth=50.0)))
    assert found.seconds == pytest.approx(3 * 3 + 2 * 2 * (1 + 2))


def test_pipeline_without_latency_has_the_bubble_of_the_papers() -> None:
    """(M + S - 1) / M stage times: the bubble is (S - 1) / M of the ideal (GPipe 2.3, Megatron 2.2.1)."""
    found = pipeline(placed(chain(4, batch=8), cluster()))
    assert found.setting == "8 microbatches"
    assert found.seconds == pytest.approx(3 * (1 + (4 - 1) / 8))
    assert found.goodput == pytest.approx(8 / 11)


def test_pipeline_pays_the_links_once_there_and_back() -> None:
    found = pipeline(placed(chain(4, batch=8), cluster(latency=5.0)))
    assert found.seconds == pytest.approx(3 * (8 + 3) / 8 + 2 * 3 * 5)


def test_pipeline_has_fewer_microbatches_where_each_costs_a_launch() -> None:
    """M microbatches of c + 3/M seconds on 4 machines: (M + 3)(c + 3/M); of the divisors of 8, c = 1 makes 4 the best."""
    found = pipeline(placed(chain(4, batch=8), cluster(compute={"step": 1.0})))
    by_hand = {m: (m + 3) * (1 + 3 / m) for m in (1, 2, 4, 8)}
    assert found.seconds == pytest.approx(min(by_hand.values()))
    assert found.setting == f"{min(by_hand, key=by_hand.__getitem__)} microbatches"


def test_pipeline_is_no_quicker_than_its_busiest_link() -> None:
    """8 microbatches of 10 bytes at 2.5 bytes a second: the link takes 4 s for each, a stage 3/8 s."""
    profile = cluster(bandwidth=2.5)
    found = pipeline(placed(chain(2, batch=8, nbytes=80.0), profile))
    by_hand = {m: 2 * 3 / m + 2 * 32 / m + (m - 1) * max(3 / m, 32 / m) for m in (1, 2, 4, 8)}
    assert found.seconds == pytest.approx(min(by_hand.values()))


def test_data_parallel_takes_the_quicker_exchange_and_the_best_number_of_copies() -> None:
    """Four stages of 3 s on R copies and n = 24 bytes at 1 byte a second; latency 1: ring 2 (R - 1)(1 + 24/R), direct 1 + 24 (R - 1)."""
    workload = chain(4, batch=8, parameters=24.0)
    found = data_parallel(workload, range(8), cluster(latency=1.0, bandwidth=1.0))
    by_hand = {r: 12 / r + min(2 * (r - 1) * (1 + 24 / r), 1 + 24 * (r - 1)) for r in range(2, 9)}
    best = min(by_hand, key=by_hand.__getitem__)
    assert found.seconds == pytest.approx(by_hand[best])
    assert found.setting == f"{best} copies, direct exchange"
    assert found.goodput == pytest.approx(12 / best / by_hand[best])


def test_data_parallel_rings_where_gradients_are_large() -> None:
    workload = chain(4, batch=8, parameters=80.0)
    found = data_parallel(
        replace(workload, agents={k: AgentCost(1e12, 2e12, Clock(1, 0)) for k in workload.agents}),
        range(8),
        cluster(bandwidth=1.0),
    )
    assert found.setting == "8 copies, ring all-reduce"
    assert found.seconds == pytest.approx(12e3 / 8 + 2 * 7 * 80 / 8)


def test_data_parallel_has_no_more_copies_than_examples() -> None:
    assert data_parallel(chain(4, batch=2), range(8), cluster()).setting.startswith("2 copies")


def test_one_machine_computes_everything_and_sends_nothing() -> None:
    assert one_machine(chain(4), 0, cluster(latency=9.0)).seconds == pytest.approx(12)


def test_a_launch_is_paid_once_a_step_on_one_machine_and_on_each_of_several() -> None:
    profile = cluster(compute={"step": 1.0})
    assert one_machine(chain(4), 0, profile).seconds == pytest.approx(12 + 1)
    assert model_parallel(placed(chain(4), profile)).seconds == pytest.approx(12 + 4)


def test_windows_of_several_steps_wait_for_their_last_before_the_first_gradient() -> None:
    """Two stages, two steps a window, a link of 10 s: s0 forward 0-2, messages at 11 and 12, s1 forward to 13; s1 back 13-15 and
    15-17, s0 back from 25 and 27 to 29. Two steps in 29 s."""
    one = chain(2)
    found = model_parallel(placed(replace(one, window=2), cluster(latency=10.0)))
    assert found.seconds == pytest.approx(29 / 2)


def test_slow_clocks_tick_and_send_less_often() -> None:
    """s1 ticks every other step, at steps 1 and 3, and reads what s0 sent then: 2 ticks of s0 for one of s1 and a gradient each."""
    costs = {"s0": AgentCost(1e9, 2e9, Clock(1, 0)), "s1": AgentCost(1e9, 2e9, Clock(2, 1))}
    workload = Workload(8, 2, costs, (MessageCost("s0", "s1", 0, 0.0),), 0.0)
    found = model_parallel(placed(workload, cluster(latency=10.0)))
    # s0 forward at 0-1, 1-2; s1 at 12-13, back to 15; s0 back at 25-27 (step 1) and 27-29 (step 0)
    assert found.seconds == pytest.approx(29 / 2)


def test_messages_of_the_window_before_are_waited_for() -> None:
    """A ring of two with delay 1 and windows of one step: each reads at step t what the other sent at t - 1, 10 s later; a
    forward pass of 1 s and a call from step to step, and the backward passes in the meantime."""
    ring = (MessageCost("s0", "s1", 1, 0.0), MessageCost("s1", "s0", 1, 0.0))
    found = model_parallel(placed(replace(chain(2), messages=ring), cluster(latency=10.0)))
    assert found.seconds == pytest.approx(1 + 10)


def test_agents_of_one_machine_compute_in_turn() -> None:
    workload = chain(4)
    profile = cluster(latency=5.0)
    two = PlacedWorkload(workload, {"s0": 0, "s1": 0, "s2": 1, "s3": 1}, profile)
    assert model_parallel(two).seconds == pytest.approx(12 + 2 * 5)


def test_failures_cost_the_outage_and_half_of_what_is_between_checkpoints() -> None:
    """Four machines of one failure a day, 60 s away, a checkpoint every 10 steps of 12 s: 4 (60 + 60) of 86,400 s."""
    profile = cluster(failures={"per_day": 1, "outage": 60, "checkpoint": 10})
    found = model_parallel(placed(chain(4), profile))
    lost = 4 / 86400 * (60 + 10 * 12 / 2)
    assert found.seconds == pytest.approx(12 * (1 + lost))
    assert found.goodput == pytest.approx(1 / (4 * (1 + lost)))
    assert availability(profile, range(4), 12.0) == pytest.approx(1 / (1 + lost))
    assert availability(cluster(), range(4), 12.0) == 1


def test_a_lost_call_is_sent_anew_after_a_round_trip() -> None:
    link = LinkSpec(between=("a", "b"), latency=2.0, bandwidth=10.0, loss=0.5)
    once = 2 + 1
    assert call_seconds(link, 10.0) == pytest.approx(once + (2 * 2 + 1))  # one loss a call, the mean


@pytest.mark.parametrize("machines", [1, 2, 64])
def test_the_slowest_of_several_with_stragglers_alone(machines: int) -> None:
    compute = ComputeSpec(step=1.0, stragglers={"share": 0.1, "factor": 5})
    assert expected_slowest(compute, machines) == pytest.approx(1 + 4 * (1 - 0.9**machines))


@pytest.mark.parametrize("stragglers", [None, {"share": 0.05, "factor": 4}])
@pytest.mark.parametrize("machines", [1, 8])
def test_the_slowest_of_several_is_that_of_samples(
    stragglers: dict[str, float] | None, machines: int
) -> None:
    compute = ComputeSpec(step=1.0, spread=0.3, stragglers=stragglers)
    chance = random.Random(0)

    def factor() -> float:
        slow = stragglers is not None and chance.random() < stragglers["share"]
        return math.exp(chance.gauss(0, 0.3) - 0.045) * (4.0 if slow else 1.0)

    samples = [max(factor() for _ in range(machines)) for _ in range(20_000)]
    error = statistics.stdev(samples) / math.sqrt(len(samples))
    assert expected_slowest(compute, machines) == pytest.approx(statistics.fmean(samples), abs=4 * error)
    if machines == 1:
        assert expected_slowest(compute, 1) == pytest.approx(compute.mean_factor, rel=1e-3)


def test_measured_machines_take_their_time_from_the_measurement() -> None:
    profile = ClusterProfile(
        cluster="here",
        machines={"m": {"count": 2}},
        links=[{"between": ["m", "m"]}],
        compute={"measure": True},
    )
    workload = chain(2)
    measured = MeasuredSpeed(agent=0.5, flop=1e-9)
    found = PlacedWorkload(workload, {"s0": 0, "s1": 1}, profile, measured)
    assert model_parallel(found).seconds == pytest.approx(2 * (0.5 + 3))
    assert one_machine(workload, 0, profile, measured).seconds == pytest.approx(2 * (0.5 + 3))
