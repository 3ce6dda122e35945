"""Simulations in virtual time: the bits of one machine where nothing is late, the same bits for one seed, and state."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import DivergenceError, RunError, Scenario, Simulation
from tests.distributed.parts.stages import different, learned, stages
from tests.distributed.virtual.profiles import machines_of, on_cluster, profile
from tests.engine.numbers import one_line
from tests.kit.running import load_state

ROUGH: dict[str, Any] = {
    "latency": 2.5,
    "jitter": 0.3,
    "loss": 0.05,
    "bandwidth": 5e4,
    "compute": {"step": 1, "spread": 0.2, "stragglers": {"share": 0.1, "factor": 5}},
}
"""Keys of a cluster on which everything goes wrong that can."""


def virtual(scenario: Scenario | None = None, *, seed: int = 0, **keys: Any) -> Simulation:
    return on_cluster(scenario or stages(), profile(3, **keys), seed=seed)


def advanced(simulation: Simulation, steps: int) -> Simulation:
    for _ in range(steps):
        simulation.step()
    return simulation


def loaded(simulation: Simulation, path: Path) -> Simulation:
    load_state(simulation, path)
    return simulation


LOSSY = {"link": {"delay": 1, "drop": 0.3, "noise": 0.1}, "input": {"kind": "linear", "context": ["image"]}}
UNLOCKED = {"coupling": "unlocked", "input": {"kind": "linear", "context": ["image"]}}
IN_TIME = {
    "sobolev": stages(),
    "unlocked": stages(channel=UNLOCKED, aligned=False, env={"hold": 4}),
    "delayed": stages(channel={"coupling": "delayed"}),
    "lossy": stages(channel=LOSSY),
}


@pytest.mark.long
@pytest.mark.parametrize("name", IN_TIME)
def test_equal_machines_without_latency_learn_the_bits_of_one_machine(name: str) -> None:
    one, cluster = Simulation(IN_TIME[name], stacked=False), virtual(IN_TIME[name])
    for each in (one, cluster):
        advanced(each, 12)
    assert not different(learned(cluster), learned(one))
    assert cluster.evaluate() == one.evaluate()
    assert cluster.train_means.means() == one.train_means.means()
    assert (machines_of(cluster).seconds, cluster.now) == (12.0, 12)
    assert different(learned(cluster), learned(advanced(virtual(IN_TIME[name], latency=0.5), 12)))


@pytest.mark.long
def test_one_seed_gives_one_run_and_a_fork_and_a_checkpoint_go_on_with_all_that_is_on_its_way(
    tmp_path: Path,
) -> None:
    simulation, again = virtual(**ROUGH), virtual(**ROUGH)
    advanced(simulation, 15)
    fork = simulation.fork()
    simulation.save(tmp_path / "saved")
    other = loaded(virtual(**ROUGH), tmp_path / "saved")
    for one, steps in ((simulation, 9), (fork, 9), (other, 9), (again, 24)):
        advanced(one, steps)
    for one in (fork, other, again):
        assert not different(learned(simulation), learned(one))
        assert machines_of(one).seconds == machines_of(simulation).seconds
        assert one.metrics() == simulation.fork().metrics()
    assert all(bool(value.isfinite().all()) for value in learned(simulation).values())
    other = advanced(virtual(seed=1, **ROUGH), 24)
    assert machines_of(other).seconds != machines_of(simulation).seconds


def test_a_checkpoint_can_be_evaluated_as_any_but_takes_steps_in_virtual_time_alone(tmp_path: Path) -> None:
    simulation = virtual(latency=2)
    advanced(simulation, 6)
    simulation.save(tmp_path / "saved")
    whole = Simulation.load(tmp_path / "saved")
    assert whole.evaluate() == simulation.evaluate()
    with pytest.raises(RunError, match="belongs to a run in virtual time; continue it with"):
        whole.step()
    with pytest.raises(RunError, match="not from a simulation in virtual time"):
        simulation.running.load_state_dict(Simulation(stages()).running.state_dict())
    with pytest.raises(RunError, match="another placement"):
        on_cluster(stages(), profile(2), {"s0": 0, "s1": 0, "s2": 1}).running.load_state_dict(
            simulation.running.state_dict()
        )


def test_stragglers_let_aligned_agents_wait_and_metrics_say_so() -> None:
    found = virtual(compute={"step": 1, "stragglers": {"share": 0.2, "factor": 8}})
    advanced(found, 30)
    metrics = found.metrics()
    assert 0.01 < metrics["waiting"] < 0.6
    assert metrics["gradient_age"] > 2
    assert metrics["traffic"] > 1e4
    assert metrics["simulated_seconds"] == machines_of(found).seconds
    assert (metrics["given_up"], metrics["calls_lost"]) == (0, 0)


@pytest.mark.cases(1)
@pytest.mark.parametrize("env", [{}, {"hold": 3, "episode": "example"}], ids=["stream", "episodes"])
def test_all_agents_in_one_part_are_the_simulation_on_one_machine(
    env: dict[str, Any], tmp_path: Path
) -> None:
    scenario = stages(aligned=not env, env=env)
    one = advanced(Simulation(scenario, stacked=False), 10)
    alone = on_cluster(scenario, profile(1))
    advanced(alone, 5)
    alone.save(tmp_path / "saved")
    for other in (alone, loaded(on_cluster(scenario, profile(1)), tmp_path / "saved")):
        assert not different(learned(advanced(other, 5)), learned(one))


def test_a_run_directory_has_simulated_seconds_and_metrics_of_agents(tmp_path: Path) -> None:
    with on_cluster(stages(steps=12), profile(3, latency=1), logdir=tmp_path / "run") as simulation:
        simulation.run()
    with (tmp_path / "run/metrics.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    seconds = [float(row["value"]) for row in rows if row["metric"] == "simulated_seconds"]
    assert seconds == sorted(seconds)
    assert seconds[-1] == machines_of(simulation).seconds
    assert {"waiting", "traffic", "seconds"} <= {row["metric"] for row in rows if row["kind"] == "run"}
    assert {row["metric"] for row in rows if row["name"] == "s2"} >= {"loss", "accuracy"}


@pytest.mark.long
def test_flop_decide_how_long_a_step_takes() -> None:
    sizes = {"s0": 0, "s1": 0, "s2": 1}
    by_flop = on_cluster(stages(), profile(2, compute={"flop": 1e-6}), sizes)
    first, second = machines_of(by_flop).step_seconds
    assert first > second > 0
    assert machines_of(by_flop.fork()).step_seconds == [first, second]
    shared = on_cluster(stages(5), profile(2))  # more agents than machines
    assert [part.index for part in machines_of(shared).parts] == [0, 1]


def test_a_divergence_ends_the_run_with_one_line() -> None:
    simulation = virtual()
    advanced(simulation, 3)
    with torch.no_grad():
        next(iter(simulation.agents["s1"].parameters.values())).fill_(torch.nan)
    with one_line("s1", DivergenceError):
        advanced(simulation, 5)
    assert simulation.diverged


@pytest.mark.nightly
@pytest.mark.parametrize(("latency", "kind", "low", "high"), [(1, "linear", 100, 160), (20, "linear", 380, 540), (1, "local", 50, 90), (20, "local", 75, 120)])  # fmt: skip
def test_four_stages_reach_95_percent_as_late_as_a_plain_simulator_says(
    latency: float, kind: str, low: float, high: float
) -> None:
    scenario = stages(4, kind, batch=64, size=128, norm="batch", rate=1e-3)
    simulation = on_cluster(scenario, profile(4, latency=latency, compute={"step": 1.2}))
    while machines_of(simulation).seconds < high and simulation.evaluate().accuracy < 0.95:  # type: ignore[operator]
        advanced(simulation, 4)
    assert low < machines_of(simulation).seconds < high
