"""From documents to lines and runs: grids, variants, tuning, budgets, and runs that several lines share."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.engine.studies.plan import Plan, StudyOptions, plan
from antiphon.engine.studies.scoring import Scoring
from antiphon.errors import ScenarioError
from antiphon.scenarios import load
from antiphon.scenarios.study import StudySpec, find_study, study_names

HEAD = "study: toy\nbudgets: {small: {steps: 5, seeds: 2}, paper: {seeds: 1, set: {lr: 0.1}}}\n"
DEEPER = HEAD.replace("set: {lr", "grid: {depth: [2, 3, 4]}, set: {lr")


def planned(text: str, head: str = HEAD, **asked: Any) -> Plan:
    return plan(StudySpec.from_yaml(head + text), StudyOptions(**asked))


def test_a_grid_has_all_variants_at_every_point() -> None:
    found = planned("rows: [digits-mlp]\nvariants: [locked, local]\ngrid: {depth: [2, 3], width: [8]}")
    assert [(line.point, line.variant) for line in found.lines] == [
        ({"depth": depth, "width": 8}, variant) for depth in (2, 3) for variant in ("locked", "local")
    ]
    assert list(found.runs)[:3] == [
        "depth-2-width-8-locked-s0",
        "depth-2-width-8-local-s0",
        "depth-3-width-8-locked-s0",
    ]
    assert [run.seed for run in found.runs.values()] == [0] * 4 + [1] * 4
    assert found.lines[0].group == found.lines[1].group != found.lines[2].group
    assert (found.axes, found.x, found.steps, found.several) == (("depth", "width"), None, (5,), False)


def test_without_variants_all_of_the_scenario_stand() -> None:
    assert [line.variant for line in planned("rows: [digits-mlp]").lines] == [
        "locked",
        "detached",
        "local",
        "decoupled",
    ]


def test_values_of_a_variant_go_before_the_grid_and_equal_runs_are_one() -> None:
    found = planned(
        "rows: [digits-mlp]\ngrid: {delay: [0, 1]}\nvariants: {locked: {set: {delay: 0}}, bare: {variant: decoupled, set: {context: []}}}"
    )
    assert [line.variant for line in found.lines] == ["locked", "bare"] * 2
    assert found.lines[0].candidates[0].runs == found.lines[2].candidates[0].runs
    assert len(found.runs) == 2 * 3
    bare = found.runs["delay-1-bare-s1"].request
    assert (bare.variant, bare.resolved_values["context"], bare.resolved_values["delay"]) == (
        "decoupled",
        [],
        1,
    )


def test_lines_that_differ_in_their_scoring_alone_share_runs() -> None:
    text = "rows: [digits-mlp]\nvariants: {local: {}, lossy: {variant: local, evaluate: {links: as_run, drop: 0.5}}}"
    found = planned(text)
    assert list(found.runs) == ["local-s0", "local-s1"]
    assert found.runs["local-s0"].scorings == [Scoring("test", "as_run", 0.5)]
    assert [line.scoring.plain for line in found.lines] == [True, False]


def test_tuning_makes_candidates_that_are_scored_on_validation() -> None:
    found = planned("rows: [digits-mlp]\nvariants: [locked]\ntune: {lr: [0.1, 0.2], batch: [4]}")
    (line,) = found.lines
    assert [candidate.values for candidate in line.candidates] == [
        {"lr": 0.1, "batch": 4},
        {"lr": 0.2, "batch": 4},
    ]
    assert found.runs["locked-lr-0.2-batch-4-s1"].scorings == [Scoring("validation")]
    assert found.tuned == {"lr": (0.1, 0.2), "batch": (4,)}


@pytest.mark.parametrize("asked", [{"budget": "paper"}, {"values": {"lr": 0.1}}])
def test_what_a_budget_or_the_user_sets_is_not_tuned(asked: dict[str, Any]) -> None:
    found = planned(
        "rows: [digits-mlp]\nvariants: [locked]\ngrid: {depth: [2]}\ntune: {lr: [0.1, 0.2]}", **asked
    )
    assert [candidate.values for line in found.lines for candidate in line.candidates] == [{}] * len(
        found.lines
    )
    assert (found.tuned, found.fixed) == ({}, ["lr"])
    assert {run.request.resolved_values["lr"] for run in found.runs.values()} == {0.1}


def test_the_metric_is_that_of_the_readout_where_none_is_named() -> None:
    assert planned("rows: [digits-mlp]").metrics == ("accuracy",)
    regression = planned("rows: [{scenario: hyperplane, set: {loss: regression, target: onehot}}]")
    assert regression.metrics == ("error",)
    assert planned("rows: [digits-mlp]\nmetric: [loss, n1.error]\nset: {depth: 2}").metrics == (
        "loss",
        "n1.error",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "metric: n9.error",
            "toy: locked: metric: n9.error: no agent 'n9' with an objective; known: n1",
        ),
        ("metric: n0.error", "metric: n0.error: no agent 'n0' with an objective"),
        (
            "curves: n1.bits",
            "curves: n1.bits: n1 has none, it is for classification; known: accuracy, error, loss",
        ),
        ("metric: bits", "metric: bits: n1 has none, it is for classification"),
    ],
)
def test_metrics_that_no_agent_has_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        planned("rows: [digits-mlp]\nset: {depth: 2}\n" + text)
    assert problem in str(caught.value)


def test_a_budget_replaces_axes_steps_and_seeds() -> None:
    found = planned("rows: [digits-mlp]\nvariants: [locked]\ngrid: {depth: [2]}", DEEPER, budget="paper")
    assert [line.point["depth"] for line in found.lines] == [2, 3, 4]
    assert (found.budget, found.seeds) == ("paper", 1)
    assert found.steps == (load("digits-mlp").resolve().training.steps,)
    assert found.x == "depth"


def test_what_the_user_sets_leaves_the_grid() -> None:
    found = planned(
        "rows: [digits-mlp]\nvariants: [locked]\ngrid: {depth: [2, 3]}", values={"depth": 5}, seeds=1
    )
    assert [(line.point, line.variant) for line in found.lines] == [({}, "locked")]
    assert found.runs["locked-s0"].request.resolved_values["depth"] == 5


def test_rows_stand_under_their_budgets_and_have_names() -> None:
    text = "variants: [locked]\nrows: [{scenario: digits-mlp, set: {width: 8}}, {scenario: digits-mlp, name: wide, budgets: [paper]}]\ngrid: {depth: [2]}"
    assert [line.row for line in planned(text).lines] == ["digits-mlp"]
    both = planned(text, DEEPER, budget="paper")
    assert [line.row for line in both.lines] == ["digits-mlp"] * 3 + ["wide"] * 3
    assert both.several
    assert "wide-depth-4-locked-s0" in both.runs


def test_a_parameter_can_follow_the_seed() -> None:
    found = planned("rows: [digits-mlp]\nvariants: [locked]\nseed_as: delay\nset: {delay: 3}")
    assert [found.runs[f"locked-s{seed}"].request.resolved_values["delay"] for seed in (0, 1)] == [0, 1]


def test_paper_figures_go_to_their_lines() -> None:
    text = "rows: [{scenario: digits-mlp, paper: [{variant: locked, over: depth, values: {3: 0.5}, sure: verbatim, source: p}]}]"
    found = planned(f"{text}\nvariants: [locked, local]\ngrid: {{depth: [2, 3]}}")
    assert [line.paper and line.paper[0] for line in found.lines] == [None, None, 0.5, None]


@pytest.mark.parametrize(
    ("text", "asked", "problem"),
    [
        ("rows: [digits-mlp]", {"budget": "papr"}, "toy has no budget 'papr'; did you mean 'paper'?"),
        ("rows: [digits-mlp]", {"variants": ["lokal"]}, "toy has no variant 'lokal'; did you mean 'local'?"),
        (
            "rows: [digits-mlp]\nvariants: [lokal]",
            {},
            "toy: variant 'lokal': digits-mlp has no variant 'lokal'; did you mean 'local'?",
        ),
        (
            "rows: [digits-mlp]\ngrid: {dpth: [1]}",
            {},
            "toy: dpth=1 locked: digits-mlp has no parameter 'dpth'; did you mean 'depth'?",
        ),
        (
            "rows: [digits-mlp]\ngrid: {depth: [0]}",
            {},
            "depth=0 locked: parameter 'depth': must be at least 2",
        ),
        ("rows: [digts-mlp]", {}, "no scenario 'digts-mlp'; did you mean 'digits-mlp'?"),
        (
            "rows: [digits-mlp, {scenario: digits-mlp, set: {width: 3}}]",
            {},
            "toy: two rows are called 'digits-mlp'; give one of them a name",
        ),
        ("rows: [{scenario: digits-mlp, budgets: [paper]}]", {}, "toy: the budget 'small' has no rows"),
    ],
)
def test_what_cannot_be_is_one_line(text: str, asked: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        planned(text, **asked)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", study_names())
def test_every_library_study_has_a_plan_under_every_budget(name: str) -> None:
    spec = find_study(name)
    assert spec is not None
    assert list(spec.budgets)[:1] == ["small"]
    for budget in spec.budgets:
        found = plan(spec, StudyOptions(budget=budget))
        assert found.runs
        groups: dict[tuple[str, str], set[str]] = {}
        for line in found.lines:
            groups.setdefault(line.group, set()).add(line.variant)
        if found.metrics[0] in ("accuracy", "error"):
            assert all(
                {"locked", "detached", "local"} & variants >= {"locked", "detached"}
                for variants in groups.values()
            )
