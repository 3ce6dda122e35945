"""Virtual time (semantics 44): events (distributed/virtual/cluster.py), profiles, and simulations whose bits are those of one machine where nothing is late."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from antiphon import DivergenceError, Scenario, Simulation
from antiphon.base.errors import RunError, ScenarioError
from antiphon.distributed.parts.cut import CutMessage, Exchange
from antiphon.distributed.parts.part import Part
from antiphon.distributed.virtual.cluster import VirtualCluster
from antiphon.distributed.virtual.profile import ClusterProfile, find_profile
from antiphon.distributed.virtual.virtual_coordinator import VirtualCoordinator
from tests.distributed.parts.stages import different, learned, stages
from tests.engine.numbers import one_line


def profile(parts: int, **keys: Any) -> ClusterProfile:
    """A cluster of equal machines; keys of the link, and `compute`."""
    compute = keys.pop("compute", {"step": 1})
    links = [{"between": ["m", "m"], **keys}] if parts > 1 else []
    return ClusterProfile(cluster="test", machines={"m": {"count": parts}}, compute=compute, links=links)


def on_cluster(
    scenario: Scenario,
    cluster: ClusterProfile,
    parts: int | Mapping[str, int] | None = None,
    **settings: Any,
) -> Simulation:
    """A simulation in virtual time; `parts`: their number, or the part of each agent."""
    division = {"count": parts} if isinstance(parts, int) else {"placement": parts}
    return Simulation(scenario, parts={"cluster": cluster, **division}, **settings)


def metrics_of(simulation: Simulation) -> dict[str, float]:
    """The metrics of a simulation in virtual time, so far."""
    return simulation.running.executor.metrics()


def machines_of(simulation: Simulation) -> VirtualCluster:
    """The machines of a simulation in virtual time."""
    executor = simulation.running.executor
    assert isinstance(executor, VirtualCoordinator)
    return executor.cluster


HUNDRED_BYTES = torch.zeros(25)


@dataclass
class CountingPart:
    """One of a chain. `read` has, by step, what had arrived before it; a part that `aligns` waits for the part before it."""

    index: int
    neighbours: tuple[int, ...]
    aligns: bool = False
    now: int = 0
    arrived: list[list[int]] = field(default_factory=list)
    read: list[list[list[int]]] = field(default_factory=list)

    def waits_for(self) -> tuple[int, ...]:
        before = self.index - 1
        fresh = any(sender == before for sender, _ in self.arrived)
        return (before,) if self.aligns and before in self.neighbours and not fresh else ()

    def step(self, *, watch: bool = False) -> None:
        self.read.append(self.arrived)
        self.arrived = []
        self.now += 1

    def collect(self, neighbour: int) -> Exchange:
        message = CutMessage("x->y", self.now - 1, HUNDRED_BYTES, self.now - 1)
        return Exchange(self.index, self.now - 1, self.now, [message])

    def deliver(self, exchange: Exchange) -> None:
        self.arrived.append([exchange.sender, exchange.first])


def chain(parts: int, *, aligns: bool = False, seed: int = 0, **keys: Any) -> VirtualCluster:
    """A chain of counting parts."""
    cluster = profile(parts, **keys)
    made = [CountingPart(i, tuple(j for j in (i - 1, i + 1) if 0 <= j < parts), aligns) for i in range(parts)]
    seconds = [cluster.machine(i).compute.step for i in range(parts)]
    return VirtualCluster(cluster, cast(list[Part], made), seconds, seed)


def until(cluster: VirtualCluster, seconds: float) -> VirtualCluster:
    """Take all events up to a time."""
    while cluster._heap and cluster._heap[0][0] <= seconds:
        cluster.advance()
    return cluster


def read(cluster: VirtualCluster, part: int) -> list[list[list[int]]]:
    return cast(CountingPart, cluster.parts[part]).read


def test_machines_of_the_profiles_that_come_along_are_numbered_in_turn_from_each_group() -> None:
    for name, size in {"continents-1000": 1000, "datacentre-100": 100, "two-cores": 2}.items():
        found = find_profile(name)
        assert (found.cluster, found.size) == (name, size)
        assert found.about
        assert found.link(0, size - 1).latency > 0
    assert find_profile("continents-1000").machine(999).name == "europe-399"
    with pytest.raises(ScenarioError, match="test: no machine 4; it has 4, numbered from 0 to 3"):
        profile(4).machine(4)


def test_without_latency_each_step_reads_what_the_neighbours_sent_at_the_step_before() -> None:
    cluster = until(chain(3), 4.5)
    assert read(cluster, 1) == [[]] + [[[0, t], [2, t]] for t in range(3)]
    assert [part.now for part in cluster.parts] == [4, 4, 4]


def test_latency_and_bandwidth_delay_what_arrives() -> None:
    cluster = until(chain(2, latency=1.5, bandwidth=200), 6)  # 1.5 s + 100 B / 200 B/s: two steps
    assert read(cluster, 1) == [[], [], [], [[0, 0]], [[0, 1]], [[0, 2]]]


def test_calls_queue_for_a_link_that_is_too_narrow_and_each_way_has_its_own() -> None:
    cluster = until(chain(2, bandwidth=50), 8)  # a call occupies the link for two steps
    assert read(cluster, 1) == [[], [], [], [[0, 0]], [], [[0, 1]], [], [[0, 2]]]
    assert read(cluster, 0) == [[], [], [], [[1, 0]], [], [[1, 1]], [], [[1, 2]]]


def test_an_aligned_part_waits_and_metrics_of_parts_are_those_of_their_machines() -> None:
    cluster = until(chain(2, aligns=True, latency=3), 2)
    assert [machine.waits_for for machine in cluster.machines] == [None, 0]
    until(cluster, 8)
    first, second = cluster.statistics()
    assert (first.part, first.machine, first.steps_taken, first.seconds) == (0, "m-0", 8, 8.0)
    assert (first.computing, first.waiting) == (8.0, 0.0)
    assert (second.computing, second.waiting) == (4.0, 4.0)
    assert (second.calls, second.bytes_sent, second.bytes_received) == (4, 400, 500)
    until(cluster, 9)
    assert read(cluster, 1) == [[[0, t]] for t in range(5)]  # from 4 s on, one a second
    assert [(part.computing, part.waiting) for part in cluster.statistics()] == [(9, 0), (5, 4)]


@pytest.mark.long
def test_stragglers_and_spread_change_how_long_steps_take_and_no_other_part() -> None:
    slow = {"step": 1, "spread": 0.5, "stragglers": {"share": 0.2, "factor": 10}}
    pair, three = (until(chain(count, compute=slow), 1000) for count in (2, 3))
    steps = [part.now for part in pair.parts]
    assert steps[0] != steps[1]
    assert 2000 / sum(steps) == pytest.approx(1 + 0.2 * 9, rel=0.15)
    assert three.parts[0].now == steps[0]
    spread = until(chain(2, compute={"step": 1, "spread": 0.5}), 1000)
    assert 2000 / sum(part.now for part in spread.parts) == pytest.approx(1, rel=0.06)


def test_jitter_keeps_the_mean_latency_and_lets_calls_overtake() -> None:
    found = read(until(chain(2, latency=5, jitter=0.5), 1000), 1)
    ages = [step - sent for step, some in enumerate(found) for _, sent in some]
    assert sum(ages) / len(ages) == pytest.approx(5 + 1, abs=0.6)  # it waits for the next step to begin
    order = [sent for some in found for _, sent in some]
    assert order != sorted(order)


def test_calls_are_lost_at_the_rate_of_the_link_and_counted() -> None:
    cluster = until(chain(2, loss=0.25), 1000)
    assert sum(map(len, read(cluster, 1))) == pytest.approx(750, rel=0.1)
    first = cluster.machines[0]
    assert (first.metrics.calls, first.metrics.bytes_sent) == (1000, 100_000)
    assert first.calls_lost == pytest.approx(250, rel=0.2)


def test_when_every_part_waits_it_is_said_in_one_line() -> None:
    cluster = chain(2, aligns=True)
    cast(CountingPart, cluster.parts[0]).index = 2  # now each waits for the other one
    with pytest.raises(
        RunError, match=r"virtual: at 0 s every part waits for another one \(part 0 for part 1, "
    ):
        until(cluster, 1).advance()


# --- profiles --------------------------------------------------------------------------------------------


TWO = """
cluster: two
machines:
  fast: {count: 3, compute: {step: 0.5}}
  slow: {}
compute: {flop: 2.0e-9, stragglers: {share: 0.1, factor: 11}}
links:
  - {between: [fast, fast], latency: 0.25}
  - {between: [slow, fast], latency: 1, bandwidth: 100}
"""
REFUSED: list[tuple[str, str]] = [
    ("", "two.yaml:1: a cluster is a mapping of keys; begin with 'cluster: NAME'"),
    (TWO.replace("cluster: two\n", ""), "two.yaml:2: cluster: is missing"),
    (TWO.replace("[slow, fast]", "[slow, slow]"), "two.yaml:7: links: none between fast and slow; add {between: [fast, slow]"),
    (TWO.replace("[fast, fast]", "[fast, slow]"), "two.yaml:9: links[1]: a second link between slow and fast; leave one out"),
    (TWO.replace("[fast, fast]", "[fats, fast]"), "links: none between fast and fast"),
    (TWO.replace("latency: 1,", "latency: 0, jitter: 0.1,"), "links[1].jitter: multiplies the latency, and latency is 0"),
    (TWO.replace("[fast, fast]", "[fast]"), "links[0].between: must be a list of at least 2, not ['fast']"),
    (TWO.replace("compute: {flop", "compute: {flopp"), "unknown key 'flopp'; did you mean 'flop'?"),
    ("cluster: none\nmachines: {a: {}}\n", "compute: is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=range(len(REFUSED)))
def test_a_document_that_is_not_accepted_gives_one_line(text: str, line: str, here: Path) -> None:
    Path("two.yaml").write_text(text, encoding="utf-8")
    with one_line(re.escape(line)):
        find_profile("two.yaml")


def test_a_profile_that_is_not_found_gives_one_line() -> None:
    with one_line("cluster: no profile 'two-core'; did you mean 'two-cores'"):
        find_profile("two-core")
    with one_line(r"absent\.yaml: no such file"):
        find_profile("absent.yaml")


# --- simulations -----------------------------------------------------------------------------------------


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
    assert cluster.running.train_means.means() == one.running.train_means.means()
    assert (machines_of(cluster).seconds, cluster.now) == (12.0, 12)
    assert different(learned(cluster), learned(advanced(virtual(IN_TIME[name], latency=0.5), 12)))


@pytest.mark.long
def test_one_seed_gives_one_run() -> None:
    simulation, again = (advanced(virtual(**ROUGH), 24) for _ in range(2))
    assert not different(learned(simulation), learned(again))
    assert machines_of(again).seconds == machines_of(simulation).seconds
    assert metrics_of(again) == metrics_of(simulation)
    assert all(bool(value.isfinite().all()) for value in learned(simulation).values())
    other = advanced(virtual(seed=1, **ROUGH), 24)
    assert machines_of(other).seconds != machines_of(simulation).seconds


def test_a_checkpoint_can_be_evaluated_as_any_and_not_continued(tmp_path: Path) -> None:
    simulation = virtual(latency=2)
    advanced(simulation, 6)
    simulation.save(tmp_path / "saved")
    whole = Simulation.load(tmp_path / "saved")
    assert whole.evaluate() == simulation.evaluate()
    with pytest.raises(RunError, match="belongs to a run in virtual time, which cannot be continued"):
        whole.step()
    with pytest.raises(RunError, match="a run in virtual time cannot be continued or forked"):
        simulation.fork()


def test_stragglers_let_aligned_agents_wait_and_metrics_say_so() -> None:
    found = virtual(compute={"step": 1, "stragglers": {"share": 0.2, "factor": 8}})
    advanced(found, 30)
    metrics = metrics_of(found)
    assert 0.01 < metrics["waiting"] < 0.6
    assert metrics["gradient_age"] > 2
    assert metrics["simulated_seconds"] == machines_of(found).seconds
    assert (metrics["given_up"], metrics["calls_lost"]) == (0, 0)


@pytest.mark.parametrize("env", [{}, {"hold": 3, "episode": "example"}], ids=["stream", "episodes"])
def test_all_agents_in_one_part_are_the_simulation_on_one_machine(env: dict[str, Any]) -> None:
    scenario = stages(aligned=not env, env=env)
    one = advanced(Simulation(scenario, stacked=False), 10)
    assert not different(learned(advanced(on_cluster(scenario, profile(1)), 10)), learned(one))


def test_a_run_directory_has_simulated_seconds_and_metrics_of_agents(tmp_path: Path) -> None:
    with on_cluster(stages(steps=12), profile(3, latency=1), logdir=tmp_path / "run") as simulation:
        simulation.run()
    with (tmp_path / "run/metrics.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    seconds = [float(row["value"]) for row in rows if row["metric"] == "simulated_seconds"]
    assert seconds == sorted(seconds)
    assert seconds[-1] == machines_of(simulation).seconds
    assert {"waiting", "seconds"} <= {row["metric"] for row in rows if row["kind"] == "run"}
    assert {row["metric"] for row in rows if row["name"] == "s2"} >= {"loss", "accuracy"}


@pytest.mark.long
def test_flop_decide_how_long_a_step_takes() -> None:
    sizes = {"s0": 0, "s1": 0, "s2": 1}
    by_flop = on_cluster(stages(), profile(2, compute={"flop": 1e-6}), sizes)
    first, second = machines_of(by_flop).step_seconds
    assert first > second > 0
    with one_line("test: a step of part 0 takes no time; give compute.step"):
        on_cluster(stages(), profile(2, compute={}), sizes)
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
