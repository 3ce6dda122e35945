"""From documents to lines and runs: grids, variants, tuning, budgets, and runs that several lines share."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.jobs.studies.plan import StudyOptions, StudyPlan, plan, worded
from antiphon.jobs.studies.scoring import Scoring
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import Scenario, load
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


def test_values_that_are_mappings_or_long_lists_are_told_apart_in_every_line() -> None:
    longer = [*range(9)], [*range(8), 9]
    kinds = {"kind": "local", "pool": "mean"}, {"kind": "local", "pool": ["max"]}
    assert [*map(worded, (*longer, *kinds))] == [
        "[0, 1, 2, 3, 4, 5, 6, 7, 8]",
        "[0, 1, 2, 3, 4, 5, 6, 7, 9]",
        "{kind: 'local', pool: 'mean'}",
        "{kind: 'local', pool: ['max']}",
    ]


def test_a_folder_has_a_name_that_a_file_system_bears_however_long_a_value_is() -> None:
    def made(*, words: tuple[str, ...] = ()) -> Scenario:
        return load("digits-mlp").resolve(values={"batch": 1 + len(words)})

    spec = StudySpec(study="toy", scenario="toy", grid={"words": [["a"] * 200, ["a"] * 201]})
    found = plan(spec, StudyOptions(), PythonTemplate.of(made))
    assert [*map(len, found.runs)] == [149, 151]


def test_the_steps_of_a_budget_take_the_place_of_an_axis_of_steps() -> None:
    axes = "variants: [locked]\ngrid: {steps: [6, 7]}"
    assert [line.point for line in planned(axes).lines] == [{}]
    found = planned(axes, budget="paper")
    assert ([line.point for line in found.lines], found.steps) == ([{"steps": 6}, {"steps": 7}], [6, 7])


@pytest.mark.parametrize("options", [{"budget": "paper"}, {"values": {"lr": 0.1}}])
def test_what_a_budget_or_the_user_sets_is_not_tuned(options: dict[str, Any]) -> None:
    found = planned("variants: [locked]\ngrid: {depth: [2]}\ntune: {lr: [0.1, 0.2]}", **options)
    assert [tuned for line in found.lines for tuned in line.candidates.values()] == [{}]
    assert (found.tuned, found.fixed) == ({}, ["lr"])
    assert {runs.request.resolved_values["lr"] for runs in found.runs.values()} == {0.1}


def test_a_budget_replaces_axes_and_the_user_takes_them_away() -> None:
    text = "variants: [locked]\ngrid: {depth: [2, 3]}"
    deeper = HEAD.replace("set: {lr: 0.1}", "grid: {depth: [2, 3, 4]}")
    assert [line.point["depth"] for line in planned(text, deeper, budget="paper").lines] == [2, 3, 4]
    found = planned(text, values={"depth": 5})
    assert [line.point for line in found.lines] == [{}]
    assert found.runs["locked"].request.resolved_values["depth"] == 5


MANY = f"grid: {{depth: {list(range(2, 99))}, width: {list(range(1, 99))}}}"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("variants: [lokal]", {}, "toy.yaml:4: variants.lokal: digits-mlp has no variant 'lokal'; did you mean"),
    ("grid: {dpth: [1]}", {}, "toy.yaml:4: grid.dpth: digits-mlp has no parameter 'dpth'; did you mean"),
    ("grid: {depth: [0]}", {}, "toy.yaml:4: grid.depth: must be at least 2, not 0"),
    (MANY, {}, "toy: 76,048 runs; a study has at most 20,000: take fewer values, variants or seeds"),
]


def test_what_cannot_be_is_one_line() -> None:
    for text, options, problem in REFUSED:
        with one_line(problem):
            planned(text, **options)
    with one_line("no scenario 'digts-mlp'; did you mean 'digits-mlp'"):
        planned("", HEAD.replace("digits", "digts"))


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
