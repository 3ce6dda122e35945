"""Documents of studies: what they may say, and that what they may not is one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import load
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document
from tests.kit.some import some

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
HEAD = "study: toy\nscenario: digits-mlp\nbudgets: {small: {}}\n"
TIMED = HEAD.replace("{}", "{steps: 2}")


def test_a_document_is_read_whole() -> None:
    spec = StudySpec.from_yaml(TEXT, "study")
    variants = some(spec.variants)
    assert (variants["bare"].variant, variants["bare"].evaluate) == ("decoupled", "as_run")
    assert variants["bare"].set == {"context": ()}
    assert variants["locked"].variant is None
    assert (spec.grid, spec.tune) == ({"depth": (2, 3)}, {"lr": (0.1, 0.001)})
    assert [spec.budgets[name].seeds for name in ("small", "paper")] == [3, 5]
    assert list(some(StudySpec.from_yaml(HEAD + "variants: [locked, local]", "study").variants)) == [
        "locked",
        "local",
    ]


def test_a_variant_may_set_what_others_take_from_the_grid_or_a_budget_does_not_tune() -> None:
    grid = "grid: {depth: [1, 2]}\nvariants: {a: {set: {depth: 3}}, b: {}}"
    assert StudySpec.from_yaml(HEAD + grid, "study").grid == {"depth": (1, 2)}
    for values in ("set: {depth: 1}", "grid: {lr: [1]}"):
        StudySpec.from_yaml(f"{HEAD}{values}\nvariants: {{a: {{set: {{width: 3}}}}, b: {{}}}}", "study")
    untuned = HEAD.replace("small: {}", "small: {set: {lr: 1}}, large: {}")
    StudySpec.from_yaml(untuned + "tune: {lr: [1, 2]}\nvariants: {a: {set: {lr: 3}}, b: {}}", "study")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("study: toy\n", "s.yaml:1: scenario: is missing"),
        (HEAD + "metric: acuracy", "s.yaml:4: metric: unknown metric 'acuracy'; did you mean 'accuracy'?"),
        (HEAD + "metric: [accuracy, A.acuracy]", "metric: unknown metric 'A.acuracy'; write AGENT.METRIC"),
        (
            HEAD + "metric: solved\ntune: {lr: [1]}",
            "s.yaml:4: metric: `tune` compares on the validation split, which has no 'solved'; write accuracy",
        ),
        (HEAD + "variants: [a, a]", "s.yaml:4: variants: names 'a' twice"),
        (HEAD + "grid: {depth: 3}", "s.yaml:4: grid.depth: must be a list of values, not 3; write [3]"),
        (HEAD + "grid: {lr: [1]}\ntune: {lr: [1]}", "tune.lr: is both on the grid and tuned"),
        (HEAD + "grid: {lr: [1]}\nset: {lr: 1}", "s.yaml:5: set.lr: is ignored, as `grid` has it"),
        (HEAD + "tune: {lr: [1]}\nset: {lr: 1}", "s.yaml:5: set.lr: is ignored, as `tune` has it"),
        (
            HEAD + "grid: {depth: [1, 2]}\nvariants: {a: {set: {depth: 3}}, b: {set: {depth: 4}}}",
            "s.yaml:4: grid.depth: is ignored, as all variants set it",
        ),
        (
            HEAD + "tune: {lr: [0.1, 0.2]}\nvariants: {a: {set: {lr: 1}}, b: {}}",
            "s.yaml:5: variants.a.set.lr: is ignored, as `tune` has it",
        ),
        (HEAD + "variants: {a: {}, b: {variant: a}}", "variants.b: is the same as 'a'; change or remove one"),
        (
            TIMED + "set: {steps: 3}",
            "s.yaml:4: set.steps: is ignored, as the budget 'small' has steps; leave it out of one of the two",
        ),
        (
            HEAD.replace("small: {}", "small: {set: {depth: 1}}") + "grid: {depth: [1, 2]}",
            "s.yaml:3: budgets.small.set.depth: is ignored, as `grid` has it; write budgets.small.grid, or leave it out",
        ),
        (
            HEAD.replace("small: {}", "small: {grid: {depth: [1]}}"),
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
