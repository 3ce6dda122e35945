"""Plans on a cluster: which variants are trained, that a plan ends in time, and the formulas against cases by hand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from antiphon.engine.planning.cluster_plan import ClusterPlan, PlanRow, plan_on_cluster, variants_of
from antiphon.engine.virtual.profile import ClusterProfile, find_profile
from antiphon.scenarios import Scenario, Template, load
from tests.engine.virtual.profiles import profile

TINY = {"depth": 2, "width": 16, "batch": 16}
PLAIN = """
scenario: plain
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image], network: {kind: mlp, hidden: [16], norm: batch}}
  ear: {network: {kind: mlp, hidden: [16], norm: batch}, objective: {kind: classification, target: label}}
channels: [{from: eye, to: ear, size: 16, gradient: {kind: linear, context: [label]}}]
training: {batch: 16, steps: 60}
"""


def planned(
    cluster: ClusterProfile | None = None, values: dict[str, Any] | None = None, **settings: Any
) -> ClusterPlan:
    scenarios = variants_of(load("digits-mlp"), None, TINY | (values or {}))
    return plan_on_cluster(scenarios, cluster or profile(2), **{"target": 20, "seeds": 1, **settings})


def rows(plan: ClusterPlan) -> dict[str, PlanRow]:
    return {row.name: row for row in (*plan.variants, *plan.formulas)}


def of_plain(old: str = "", new: str = "") -> dict[str, Scenario]:
    """The variants of `PLAIN`, changed."""
    return variants_of(Template.from_yaml(PLAIN.replace(old, new) if old else PLAIN, "plain.yaml"), None, {})


# --- variants --------------------------------------------------------------------------------------------


def test_the_documents_variants_are_trained_or_the_one_that_is_asked_for_beside_locked() -> None:
    template = load("pipelined")
    assert list(variants_of(template, None, {})) == ["locked", "delayed", "decoupled", "local", "detached"]
    assert list(variants_of(load("digits-mlp"), "local", {})) == ["locked", "local"]
    assert list(variants_of(load("char-lm"), "critic", {})) == ["critic"]  # no messages to be locked


def test_a_document_without_variants_is_trained_as_it_is() -> None:
    plan = plan_on_cluster(of_plain(), profile(2), target=20, seeds=1, steps=1)
    assert [(row.name, row.machines) for row in plan.variants] == [("default", 2)]
    assert plan.formulas == ()  # they need the steps of locked


@pytest.mark.long
def test_what_cannot_be_cut_is_on_one_machine_for_a_reason() -> None:
    values = {"data": "digits", "agents": 6, "readouts": 2, "batch": 8}
    for scenarios, machines, line in (
        # its reader cannot be aligned, so that messages without delay cannot be cut
        (of_plain("size: 16,", "size: 16, read: mean,"), {1}, "channels[eye->ear].link.delay: 0: a message is read at"),
        (of_plain("size: 16,", "size: 16, link: {delay: 1},"), {2}, "its readers are not aligned"),
        (variants_of(load("corporation"), "decoupled", values), {1}, "its episodes end"),
    ):  # fmt: skip
        found = plan_on_cluster(scenarios, profile(2), target=20, seeds=1, steps=1)
        assert {row.machines for row in found.variants} == machines
        assert found.variants[-1].note.startswith(line)


# --- training --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_every_variant_has_its_steps_and_seconds_over_seeds() -> None:
    plan = planned(profile(2, latency=0.5), seeds=2)
    found = rows(plan)
    assert list(found) == ["locked", "decoupled", "local", "detached", "one machine", "data parallel"]
    assert (plan.scenario, plan.target) == ("digits-mlp", "accuracy 20 %")
    for row in plan.variants:
        assert len(row.runs) == 2
        assert all(run.reached for run in row.runs)
        assert row.steps is not None
        assert row.steps[0] == sum(run.steps for run in row.runs) / 2
    assert found["decoupled"].machines == 2
    assert (found["locked"].steps, found["locked"].seconds) == (
        found["one machine"].steps,
        found["one machine"].seconds,
    )


def test_a_target_that_is_not_reached_says_how_far_it_got() -> None:
    found = rows(planned(target=99, steps=4, seeds=2))
    row = found["local"]
    assert (row.steps, row.seconds, len(row.runs)) == (None, None, 1)
    assert row.note.startswith("not reached in 4 steps (best ")
    assert found["data parallel"].note.endswith("locked has not reached the target")


@pytest.mark.long
def test_a_plan_ends_in_time_and_every_variant_has_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on whenever it is read, however busy the machine is."""
    reads = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(reads) / 100)
    monkeypatch.setattr("antiphon.engine.planning.cluster_plan.time", clock)
    plan = planned(target=100, steps=100_000, budget=1)
    assert all(row.runs[0].steps >= 1 for row in plan.variants)
    assert all("out of time (--budget)" in row.note for row in plan.variants)
    plan = planned(budget=0)  # nothing is begun
    assert all(row.note.endswith("out of time (--budget)") and not row.runs for row in plan.variants)
    assert plan.formulas == ()


# --- formulas --------------------------------------------------------------------------------------------


def seconds_a_step(cluster: ClusterProfile, name: str) -> tuple[int, float]:
    """Return the machines of a formula, and its seconds of a step."""
    row = rows(planned(cluster, target=2))[name]
    assert row.steps is not None
    assert row.seconds is not None
    return row.machines, row.seconds[0] / row.steps[0]


BYTES = 4 * (64 * 16 + 16 + 2 * 16 + 16 * 10 + 10)
"""Of the parameters of `TINY`: a layer with batch norm, and a classifier."""
STRAGGLERS = profile(2, compute={"step": 1, "stragglers": {"share": 0.5, "factor": 3}})
GROUPS = ClusterProfile(
    cluster="two",
    machines={"slow": {}, "fast": {"count": 2, "compute": {"step": 1}}},
    compute={"step": 4},
    links=[{"between": ["slow", "fast"], "latency": 7}, {"between": ["fast", "fast"], "latency": 2}],
)


@pytest.mark.parametrize(
    ("cluster", "formula", "machines", "seconds"),
    [
        (profile(2, compute={"step": 2}, latency=3), "data parallel", 2, 2 + 3),  # a direct exchange
        # the slowest copy is waited for
        (STRAGGLERS, "one machine", 1, 2),
        (STRAGGLERS, "data parallel", 2, 2.5),
        # one machine is the fastest; copies wait for the slowest group and link
        (GROUPS, "one machine", 1, 1),
        (GROUPS, "data parallel", 2, 4 + 7),
    ],
)
def test_formulas_by_hand(cluster: ClusterProfile, formula: str, machines: int, seconds: float) -> None:
    assert seconds_a_step(cluster, formula) == (machines, pytest.approx(seconds))


def test_data_parallel_takes_a_ring_where_bandwidth_is_small() -> None:
    thin = profile(4, compute={"flop": 1}, bandwidth=1e-3)
    machines, seconds = seconds_a_step(thin, "data parallel")
    _, whole = seconds_a_step(thin, "one machine")
    ring = [whole / copies + 2 * (copies - 1) * BYTES / copies / 1e-3 for copies in (2, 4)]
    assert machines == (2 if ring[0] < ring[1] else 4)
    assert seconds == pytest.approx(min(ring))


@pytest.mark.long
def test_steps_of_a_profile_that_measures_are_timed_here_and_on_one_machine_no_batch_is_shared() -> None:
    cluster = find_profile("two-cores")
    assert 1e-5 < seconds_a_step(cluster, "one machine")[1] < 1
    scenarios = variants_of(load("digits-mlp"), None, {"depth": 2, "width": 4, "batch": 2})
    found = rows(plan_on_cluster(scenarios, profile(1), target=2, seeds=1))
    assert found["data parallel"].note == "needs two machines, and a batch of 2"
