"""Simulations in virtual time: the bits of one machine where nothing is late, the same bits for one seed, and state."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.engine.parts.free_boundary import FreeSettings
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.engine.virtual.simulation import VirtualSimulation
from antiphon.errors import DivergenceError, RunError
from antiphon.scenarios import Scenario
from tests.engine.numbers import one_line
from tests.engine.parts.stages import different, of_simulation, stages
from tests.engine.virtual.pieces import profile

ROUGH: dict[str, Any] = {
    "latency": 2.5,
    "jitter": 0.3,
    "loss": 0.05,
    "bandwidth": 5e4,
    "compute": {"step": 1, "spread": 0.2, "stragglers": {"share": 0.1, "factor": 5}},
    "failures": {"per_day": 1000, "outage": 6, "checkpoint": 4},
}
"""Keys of a cluster on which everything goes wrong that can."""


def virtual(scenario: Scenario | None = None, *, seed: int = 0, **keys: Any) -> VirtualSimulation:
    return VirtualSimulation(scenario or stages(), profile(3, **keys), seed=seed)


def advanced(simulation: Simulation, steps: int) -> Simulation:
    for _ in range(steps):
        simulation.step()
    return simulation


@pytest.mark.parametrize("kind", ["sobolev", pytest.param("critic", marks=pytest.mark.long)])
def test_equal_machines_without_latency_learn_the_bits_of_one_machine(kind: str) -> None:
    scenario = stages(3, kind)
    one, cluster = Simulation(scenario, stacked=False), virtual(scenario)
    for each in (one, cluster):
        advanced(each, 15)
    assert not different(of_simulation(cluster), of_simulation(one))
    assert cluster.evaluate() == one.evaluate()
    assert cluster.train_means.means() == one.train_means.means()
    assert (cluster.seconds, cluster.now) == (15.0, 15)
    assert different(of_simulation(cluster), of_simulation(advanced(virtual(scenario, latency=0.5), 15)))


def test_one_seed_gives_one_run_and_a_fork_and_a_checkpoint_go_on_with_all_that_is_on_its_way(
    tmp_path: Path,
) -> None:
    simulation, again = virtual(**ROUGH), virtual(**ROUGH)
    advanced(simulation, 17)
    fork = simulation.fork()
    simulation.save(tmp_path / "saved")
    loaded = virtual(**ROUGH)
    loaded._load_saved(_saved(tmp_path / "saved"))
    for one, steps in ((simulation, 13), (fork, 13), (loaded, 13), (again, 30)):
        advanced(one, steps)
    for other in (fork, loaded, again):
        assert not different(of_simulation(simulation), of_simulation(other))
        assert other.seconds == simulation.seconds
        assert other.figures() == simulation.fork().figures()
    assert all(bool(value.isfinite().all()) for value in of_simulation(simulation).values())
    assert sum(machine.incarnation for machine in simulation.cluster.machines) > 0
    second = virtual(seed=1, **ROUGH)
    advanced(second, 30)
    assert second.seconds != simulation.seconds


def _saved(path: Path) -> Any:
    from antiphon.engine.state.checkpoint import read_simulation

    return read_simulation(path, None, "cpu")


def test_a_checkpoint_can_be_evaluated_as_any_but_takes_steps_in_virtual_time_alone(tmp_path: Path) -> None:
    simulation = virtual(latency=2)
    advanced(simulation, 10)
    simulation.save(tmp_path / "saved")
    whole = Simulation.load(tmp_path / "saved")
    assert whole.evaluate() == simulation.evaluate()
    with pytest.raises(RunError, match="is of a run in virtual time; go on with `antiphon resume`"):
        whole.step()
    with pytest.raises(RunError, match="not in virtual time"):
        simulation._load_state_dict(Simulation(stages())._state_dict())
    with pytest.raises(RunError, match="another placement"):
        VirtualSimulation(stages(), profile(2), {"s0": 0, "s1": 0, "s2": 1})._load_state_dict(
            simulation._state_dict()
        )


def test_stragglers_let_aligned_agents_wait_and_figures_say_so() -> None:
    found = virtual(compute={"step": 1, "stragglers": {"share": 0.2, "factor": 8}})
    advanced(found, 40)
    figures = found.figures()
    assert 0.01 < figures["waiting"] < 0.6
    assert figures["goodput"] == pytest.approx(1 - figures["waiting"])
    assert figures["gradient_age"] > 2
    assert figures["traffic"] > 1e4
    assert figures["simulated_seconds"] == found.seconds
    assert (figures["given_up"], figures["calls_lost"], figures["away"]) == (0, 0, 0)


def test_a_machine_that_fails_loses_steps_while_the_others_go_on() -> None:
    found = virtual(failures={"per_day": 3000, "outage": 10, "checkpoint": 5})
    advanced(found, 60)
    figures, machines = found.figures(), found.cluster.machines
    assert sum(machine.incarnation for machine in machines) >= 2
    for part, machine in zip(found.cluster.parts, machines, strict=True):
        assert (part.now < machine.steps_taken) == (machine.incarnation > 0)
    assert 0.3 < figures["goodput"] < 1 - figures["away"]
    assert machines[0].waiting == {}  # it sees the images, and waits for nobody


def test_a_part_that_goes_back_to_its_checkpoint_takes_no_other_part_with_it() -> None:
    channel = {"link": {"delay": 1, "drop": 0.3}, "input": {"kind": "linear", "context": ["image"]}}
    found = virtual(stages(channel=channel))
    saved = copy_tree(found.cluster.parts[1].own_state())
    advanced(found, 12)
    before = {name: value.clone() for name, value in learned_by(found).items()}
    found.cluster.parts[1].load_own_state(saved)
    changed = different(before, learned_by(found))
    assert {name.partition(".")[0] for name in changed} == {"s1", "s1->s2", "input s0->s1"}


def learned_by(simulation: Simulation) -> dict[str, torch.Tensor]:
    inputs = {
        f"input {name}.{key}": value
        for name, channel in simulation._system.channels.items()
        if channel.input is not None
        for key, value in channel.input.parameters.items()
    }
    return of_simulation(simulation) | inputs


def test_lost_messages_are_given_up() -> None:
    found = VirtualSimulation(stages(), profile(3, loss=0.5), free=FreeSettings(staleness=5))
    advanced(found, 30)
    figures = found.figures()
    assert figures["calls_lost"] == pytest.approx(0.5, abs=0.15)
    assert 0.3 < figures["given_up"] < 0.9  # of what was sent, as much as comes back is lost again


@pytest.mark.parametrize("env", [{}, {"hold": 3, "episode": "example"}], ids=["stream", "episodes"])
def test_all_agents_in_one_part_are_the_simulation_on_one_machine(
    env: dict[str, Any], tmp_path: Path
) -> None:
    scenario = stages(aligned=not env, env=env)
    one = advanced(Simulation(scenario, stacked=False), 12)
    alone = VirtualSimulation(scenario, profile(1))
    advanced(alone, 6)
    alone.save(tmp_path / "saved")
    loaded = VirtualSimulation(scenario, profile(1))
    loaded._load_saved(_saved(tmp_path / "saved"))
    for other in (alone, loaded):
        assert not different(of_simulation(advanced(other, 6)), of_simulation(one))


def test_a_run_directory_has_simulated_seconds_and_figures_of_agents(tmp_path: Path) -> None:
    with VirtualSimulation(stages(steps=20), profile(3, latency=1), logdir=tmp_path / "run") as simulation:
        simulation.run()
    with (tmp_path / "run/metrics.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    seconds = [float(row["value"]) for row in rows if row["metric"] == "simulated_seconds"]
    assert seconds == sorted(seconds)
    assert seconds[-1] == simulation.cluster.seconds
    assert {"goodput", "traffic", "seconds"} <= {row["metric"] for row in rows if row["kind"] == "run"}
    assert {row["metric"] for row in rows if row["name"] == "s2"} >= {"loss", "accuracy"}


def test_flop_decide_how_long_a_step_takes_and_so_does_a_measurement() -> None:
    sizes = {"s0": 0, "s1": 0, "s2": 1}
    by_flop = VirtualSimulation(stages(), profile(2, compute={"flop": 1e-6}), sizes)
    first, second = by_flop.cluster.step_seconds
    assert first > second > 0
    timed = VirtualSimulation(stages(), profile(2, compute={"measure": True}), sizes)
    assert all(1e-5 < seconds < 1 for seconds in timed.cluster.step_seconds)
    twin = timed.fork()
    assert twin.cluster.step_seconds == timed.cluster.step_seconds
    shared = VirtualSimulation(stages(5), profile(2))  # more agents than machines
    assert sorted(set(shared.placement.values())) == [0, 1]


def test_a_divergence_ends_the_run_with_one_line() -> None:
    simulation = virtual()
    advanced(simulation, 3)
    with torch.no_grad():
        next(iter(simulation.agents["s1"].parameters.values())).fill_(torch.nan)
    with pytest.raises(DivergenceError) as caught:
        advanced(simulation, 5)
    assert "\n" not in str(caught.value)
    assert simulation.diverged == str(caught.value)


THREE = {"s0": 0, "s1": 1, "s2": 2}
AT_ONCE: dict[str, Any] = {"channel": {"link": {"delay": 0}}}
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: VirtualSimulation(stages(), "two-core"), "no profile 'two-core'; did you mean 'two-cores'"),
    (lambda: VirtualSimulation(stages(), profile(2), THREE), "test: no machine 2; it has 2"),
    (lambda: VirtualSimulation(stages(), profile(2), {"s0": 0}), "place: s1, s2 in no part"),
    (lambda: VirtualSimulation(stages(**AT_ONCE), profile(3), THREE), "delay: 1"),
    (lambda: VirtualSimulation(stages(**AT_ONCE), profile(3)), "link: {delay: 1}"),
    (
        lambda: VirtualSimulation(stages(), profile(3), 4),
        "parts: 4; the number of agents is 3; use at most 3",
    ),
    (lambda: virtual(stages(env={"hold": 3, "episode": "example"}, aligned=False)), "env: its episodes end"),
    (lambda: virtual().set("s0.learning_rate", 0.1), "set: s0.learning_rate cannot change in virtual time"),
]


def test_what_cannot_be_is_refused_in_one_line() -> None:
    for make, line in REFUSED:
        with one_line(re.escape(line)):
            make()


@pytest.mark.nightly
@pytest.mark.parametrize(("latency", "kind", "low", "high"), [(1, "linear", 100, 160), (20, "linear", 380, 540), (1, "local", 50, 90), (20, "local", 75, 120)])  # fmt: skip
def test_four_stages_reach_95_percent_as_late_as_a_plain_simulator_says(
    latency: float, kind: str, low: float, high: float
) -> None:
    scenario = stages(4, kind, batch=64, size=128, norm="batch", rate=1e-3)
    cluster: ClusterProfile = profile(4, latency=latency, compute={"step": 1.2})
    simulation = VirtualSimulation(scenario, cluster)
    while simulation.seconds < high and simulation.evaluate().accuracy < 0.95:  # type: ignore[operator]
        advanced(simulation, 4)
    assert low < simulation.seconds < high
