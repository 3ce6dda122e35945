"""From documents to lines and runs: grids, variants, tuning, budgets, and runs that several lines share."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.jobs.studies.plan import StudyOptions, StudyPlan, plan
from antiphon.jobs.studies.scoring import Scoring
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document
from tests.engine.numbers import one_line
from tests.kit.some import some

HEAD = """study: toy
scenario: digits-mlp
budgets: {small: {steps: 5, seeds: 2}, paper: {seeds: 1, set: {lr: 0.1}}}
"""


def planned(text: str, head: str = HEAD, **options: Any) -> StudyPlan:
    return plan(StudySpec.from_yaml(head + text, "toy.yaml"), StudyOptions(**options))


def test_values_of_a_variant_go_before_the_grid_and_equal_runs_are_one() -> None:
    found = planned(
        "grid: {delay: [0, 1]}\nvariants: {locked: {set: {delay: 0}}, bare: {variant: decoupled, set: {context: []}}}"
    )
    assert [line.variant for line in found.lines] == ["locked", "bare"] * 2
    assert found.lines[0].candidates == found.lines[2].candidates
    assert len(found.runs) == 3
    bare = found.runs["delay-1-bare"].request
    assert (bare.variant, bare.resolved_values["context"], bare.resolved_values["delay"]) == (
        "decoupled",
        [],
        1,
    )


def test_tuning_makes_candidates_scored_on_validation_and_scorings_alone_share_runs() -> None:
    found = planned("variants: [locked]\ntune: {lr: [0.1, 0.2], batch: [4]}")
    (line,) = found.lines
    assert line.candidates == {
        "locked-lr-0.1-batch-4": {"lr": 0.1, "batch": 4},
        "locked-lr-0.2-batch-4": {"lr": 0.2, "batch": 4},
    }
    assert found.runs["locked-lr-0.2-batch-4"].scorings == [Scoring("validation")]
    assert found.tuned == {"lr": (0.1, 0.2), "batch": (4,)}
    found = planned("variants: {local: {}, lossy: {variant: local, evaluate: as_run}}")
    assert list(found.runs) == ["local"]
    assert found.runs["local"].scorings == [Scoring("test", "as_run")]
    assert [line.scoring.plain for line in found.lines] == [True, False]


def test_a_budget_replaces_axes_and_the_user_takes_them_away() -> None:
    text = "variants: [locked]\ngrid: {depth: [2, 3]}"
    deeper = HEAD.replace("set: {lr: 0.1}", "grid: {depth: [2, 3, 4]}")
    assert [line.point["depth"] for line in planned(text, deeper, budget="paper").lines] == [2, 3, 4]
    found = planned(text, values={"depth": 5})
    assert [line.point for line in found.lines] == [{}]
    assert found.runs["locked"].request.resolved_values["depth"] == 5


def test_only_what_is_run_is_refused() -> None:
    head = HEAD.replace("set: {lr: 0.1}", "set: {lr: nonsense}")
    text = "variants: {locked: {}, lokal: {}, odd: {variant: locked, set: {widht: 3}}}\ngrid: {depth: [1]}"
    asked: dict[str, Any] = {"variants": ["locked"], "values": {"depth": 2}}
    assert [line.variant for line in planned(text, head, **asked).lines] == ["locked"]
    deeper = head.replace("seeds: 2}", "seeds: 2, grid: {depth: [3]}}")
    assert planned(text, deeper, variants=["locked"]).lines[0].point == {"depth": 3}
    for line, options in {
        "toy.yaml:4: variants.lokal: digits-mlp has no variant 'lokal'": {**asked, "variants": ["lokal"]},
        "toy.yaml:4: variants.odd.set.widht: digits-mlp has no parameter": {**asked, "variants": ["odd"]},
        "toy.yaml:5: grid.depth: must be at least 2, not 1": {"variants": ["locked"]},
        "toy.yaml:3: budgets.paper.set.lr: must be": {**asked, "budget": "paper"},
    }.items():
        with one_line(line):
            planned(text, head, **options)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", StudySpec.library_names())
def test_every_library_study_has_a_plan_under_every_budget(name: str) -> None:
    spec = some(find_document(StudySpec, name))
    assert list(spec.budgets)[:1] == ["small"]
    for budget in spec.budgets:
        found = plan(spec, StudyOptions(budget=budget))
        groups: dict[str, set[str]] = {}
        for line in found.lines:
            groups.setdefault(line.group, set()).add(line.variant)
        if spec.metric in ((), ("accuracy",), ("error",)):
            assert all(variants >= {"locked", "detached"} for variants in groups.values())
