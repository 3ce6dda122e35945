"""From documents of studies to lines and runs: what they may say, grids, variants, tuning, budgets, and runs that several lines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.jobs.studies.plan import StudyOptions, StudyPlan, plan
from antiphon.jobs.studies.scoring import Scoring
from antiphon.scenarios import Template, load
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


def test_without_variants_a_line_is_the_coupling_of_its_name_unless_it_has_values() -> None:
    template = Template.from_yaml(
        "scenario: bare\nenv: antiphon/Digits-v0\nparameters: {width: {default: 4}}\n"
        "agents: {eye: {observes: [image]}, mind: {objective: {kind: classification, target: label}}}\n"
        "channels: [{from: eye, to: mind, size: $width}]\n"
    )
    lines = {"locked": {}, "local": {"set": {"width": 2}}}
    spec = StudySpec.of(study="bare", scenario="bare", variants=lines, budgets={"default": {"steps": 1}})
    runs = plan(spec, StudyOptions(), template).runs
    assert [run.request.variant for run in runs.values()] == ["locked", None]


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
    assert [line.scoring for line in found.lines] == [Scoring(), Scoring("test", "as_run")]


def test_a_budget_replaces_axes_and_the_user_takes_them_away() -> None:
    text = "variants: [locked]\ngrid: {depth: [2, 3]}"
    deeper = HEAD.replace("set: {lr: 0.1}", "grid: {depth: [2, 3, 4]}")
    assert [line.point["depth"] for line in planned(text, deeper, budget="paper").lines] == [2, 3, 4]
    found = planned(text, values={"depth": 5})
    assert [line.point for line in found.lines] == [{}]
    assert found.runs["locked"].request.resolved_values["depth"] == 5


def test_what_the_template_does_not_have_is_refused_with_its_place() -> None:
    for text, line in {
        "variants: {locked: {}, lokal: {}}": "toy: lokal: digits-mlp has no variant 'lokal'",
        "variants: {odd: {variant: locked, set: {widht: 3}}}": "toy: odd: digits-mlp has no parameter 'widht'",
        "grid: {gradient: [linaer]}": "toy: gradient=linaer locked: parameter 'gradient': unknown value 'linaer'",
    }.items():
        with one_line(line):
            planned(text, HEAD)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", StudySpec.library_names())
def test_every_library_study_has_a_plan_under_every_budget(name: str) -> None:
    spec = some(find_document(StudySpec, name))
    assert list(spec.budgets)[:1] == ["small"]
    for budget in spec.budgets:
        found = plan(spec, StudyOptions(budget=budget))
        groups: dict[str, set[str]] = {}
        for line in found.lines:
            groups.setdefault(repr(line.point), set()).add(line.variant)
        if spec.metric in ((), ("accuracy",), ("error",)):
            assert all(variants >= {"locked", "detached"} for variants in groups.values())


# --- documents of studies --------------------------------------------------------------------------------


TEXT = """\
study: toy
description: A toy.
scenario: digits-mlp
variants: {bare: {variant: decoupled, set: {context: []}, evaluate: as_run}, locked: }
grid: {depth: [2, 3]}
tune: {lr: [0.1, 1e-3]}
metric: error
budgets:
  small: {steps: 5, set: {lr: 0.1}}
  paper: {seeds: 5, grid: {depth: [4]}}
"""
BEGINNING = "study: toy\nscenario: digits-mlp\nbudgets: {small: {}}\n"


def test_a_document_is_read_whole() -> None:
    spec = StudySpec.from_yaml(TEXT, "study")
    variants = some(spec.variants)
    assert (variants["bare"].variant, variants["bare"].evaluate) == ("decoupled", "as_run")
    assert variants["bare"].set == {"context": ()}
    assert variants["locked"].variant is None
    assert (spec.grid, spec.tune) == ({"depth": (2, 3)}, {"lr": (0.1, 0.001)})
    assert [spec.budgets[name].seeds for name in ("small", "paper")] == [3, 5]
    assert list(some(StudySpec.from_yaml(BEGINNING + "variants: [locked, local]", "study").variants)) == [
        "locked",
        "local",
    ]


def test_a_variant_may_set_what_others_take_from_the_grid_or_a_budget_does_not_tune() -> None:
    grid = "grid: {depth: [1, 2]}\nvariants: {a: {set: {depth: 3}}, b: {}}"
    assert StudySpec.from_yaml(BEGINNING + grid, "study").grid == {"depth": (1, 2)}
    for values in ("set: {depth: 1}", "grid: {lr: [1]}"):
        StudySpec.from_yaml(f"{BEGINNING}{values}\nvariants: {{a: {{set: {{width: 3}}}}, b: {{}}}}", "study")
    untuned = BEGINNING.replace("small: {}", "small: {set: {lr: 1}}, large: {}")
    StudySpec.from_yaml(untuned + "tune: {lr: [1, 2]}\nvariants: {a: {set: {lr: 3}}, b: {}}", "study")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("study: toy\n", "s.yaml:1: scenario: is missing"),
        (
            BEGINNING + "metric: [accuracy, A.acuracy]",
            "metric: unknown metric 'A.acuracy'; write AGENT.METRIC",
        ),
        (
            BEGINNING + "metric: solved\ntune: {lr: [1]}",
            "s.yaml:4: metric: `tune` compares on the validation split, which has no 'solved'; write accuracy",
        ),
        (
            BEGINNING + "grid: {depth: 3}",
            "s.yaml:4: grid.depth: must be a list, not 3; write [3]",
        ),
        (BEGINNING + "grid: {lr: [1]}\ntune: {lr: [1]}", "tune.lr: is in `grid` too"),
        (BEGINNING + "grid: {lr: [1]}\nset: {lr: 1}", "s.yaml:5: set.lr: is in `grid` too"),
        (BEGINNING + "tune: {lr: [1]}\nset: {lr: 1}", "s.yaml:5: set.lr: is in `tune` too"),
        (
            BEGINNING.replace("small: {}", "small: {grid: {depth: [1]}}"),
            "budgets.small.grid.depth: is not an axis",
        ),
    ],
)
def test_what_cannot_be_is_one_line_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        StudySpec.from_yaml(text, "s.yaml")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("s.yaml")
    assert "\n" not in str(caught.value)


def test_studies_are_found_by_name_or_file_and_scenarios_are_none(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT.replace("scenario: digits-mlp", "scenario: own.yaml"))
    assert some(find_document(StudySpec, tmp_path / "mine.yaml")).scenario == str(tmp_path / "own.yaml")
    assert find_document(StudySpec, "dni-split") == find_document(StudySpec, "dni-split")
    assert find_document(StudySpec, "digits-mlp") is None
    assert find_document(StudySpec, "nothing") is None
    (tmp_path / "scenario.yaml").write_text(load("digits-mlp").text)
    assert find_document(StudySpec, tmp_path / "scenario.yaml") is None
    (tmp_path / "broken.yaml").write_text("study: toy\nscenario: a\nset: 3\nbudgets: {small: {}}\n")
    with pytest.raises(ScenarioError, match=r"broken\.yaml:3: set: must be a mapping"):
        find_document(StudySpec, tmp_path / "broken.yaml")
