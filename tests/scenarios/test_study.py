"""Documents of studies: what they may say, and that what they may not is told in one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import library_names, load
from antiphon.scenarios.study import DEFAULT, StudySpec, find_study, study_names
from antiphon.scenarios.training import is_of_env, less_is_better, on_validation, split_metric
from tests.some import some

TEXT = """\
study: toy
description: A toy.
rows:
  - digits-mlp
  - scenario: digits-mlp
    name: wide
    set: {width: 64}
    variants: {bare: {variant: decoupled, set: {context: []}, evaluate: as_run}, locked: }
    paper: [{variant: bare, over: depth, values: {3: 0.02}, sure: verbatim, source: a paper}]
variants: [locked, local]
grid: {depth: [2, 3]}
tune: {lr: [0.1, 1e-3]}
metric: error
figure: {x: depth}
budgets:
  small: {steps: 5, set: {lr: 0.1}}
  paper: {seeds: 5, grid: {depth: [4]}}
"""
HEAD = "study: toy\nrows: [digits-mlp]\nbudgets: {small: {}}\n"


def test_a_document_is_read_whole() -> None:
    spec = StudySpec.from_yaml(TEXT)
    first, second = spec.rows
    assert (first.scenario, first.name, second.name, second.set) == (
        "digits-mlp",
        None,
        "wide",
        {"width": 64},
    )
    assert list(spec.variants_of(first) or ()) == ["locked", "local"]
    variants = some(spec.variants_of(second))
    assert variants["bare"].variant == "decoupled"
    assert variants["bare"].set == {"context": ()}
    assert variants["bare"].evaluate is not None
    assert variants["bare"].evaluate.links == "as_run"
    assert variants["locked"].variant is None
    assert spec.grid_of(second) == {"depth": (2, 3)}
    assert spec.tune_of(second) == {"lr": (0.1, 0.001)}
    assert [spec.budgets[name].seeds for name in ("small", "paper")] == [3, 5]


def test_figures_of_papers_are_found_by_the_axis() -> None:
    (paper,) = StudySpec.from_yaml(TEXT).rows[1].paper
    assert paper.at({"depth": 3}) == 0.02
    assert paper.at({"depth": 2}) is None
    assert paper.at({}) is None


def test_metrics_are_of_readouts_of_agents_or_of_the_environment() -> None:
    spec = StudySpec.from_yaml(
        HEAD + "metric: [A.error, bits, solved]\nbound: {A.error: 0.4}\ncurves: A.loss"
    )
    assert (spec.metric, spec.curves) == (("A.error", "bits", "solved"), ("A.loss",))
    assert [spec.bound_of(metric) for metric in spec.metric] == [0.4, None, None]
    assert [split_metric(metric) for metric in spec.metric] == [
        ("A", "error"),
        (None, "bits"),
        (None, "solved"),
    ]
    assert [less_is_better(metric) for metric in spec.metric] == [True, True, False]
    assert [is_of_env(metric) for metric in spec.metric] == [False, False, True]
    assert [on_validation(metric) for metric in spec.metric] == [True, True, False]
    assert StudySpec.from_yaml(HEAD + "bound: 3").bound_of("accuracy") == 3.0


def test_a_scenario_alone_is_a_study_of_all_its_variants() -> None:
    spec = StudySpec.of_scenario("digits-mlp", "")
    assert (spec.study, [row.scenario for row in spec.rows]) == ("digits-mlp", ["digits-mlp"])
    assert (spec.variants, list(spec.budgets), spec.budgets[DEFAULT].seeds) == (None, [DEFAULT], 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("study: toy\n", "s.yaml:1: rows: is missing (and 1 more)"),
        (HEAD + "varients: [a]", "s.yaml:4: varients: unknown key 'varients'; did you mean 'variants'?"),
        (HEAD + "metric: acuracy", "s.yaml:4: metric: unknown metric 'acuracy'; did you mean 'accuracy'?"),
        (
            HEAD + "metric: [accuracy, A.acuracy]",
            "metric: unknown metric 'A.acuracy'; write AGENT.METRIC; did",
        ),
        (HEAD + "metric: A__b.error", "metric: unknown metric 'A__b.error'; write AGENT.METRIC"),
        (HEAD + "metric: so lved", "metric: unknown metric 'so lved'"),
        (HEAD + "metric: 3", "metric: must be a metric, not 3"),
        (HEAD + "metric: [A.error, A.error]", "metric: names 'A.error' twice"),
        (HEAD + "metric: [loss, train_loss]", "metric: train_loss is of the training split and stands alone"),
        (HEAD + "curves: excess_loss", "curves: excess_loss is known at the end alone; name loss"),
        (HEAD + "metric: [error, loss]\nbound: 0.4", "bound: of which metric? write {error: 0.4}"),
        (HEAD + "metric: error\nbound: {eror: 1}", "bound.eror: is no metric of the study; did you mean"),
        (HEAD + "metric: error\nbound: {error: low}", "bound.error: must be a number, or numbers by metric"),
        (HEAD + "bound: low", "s.yaml:4: bound: must be a number, or numbers by metric, not the word 'low'"),
        (HEAD + "metric: solved\ntune: {lr: [1]}", "tune: is chosen on the validation split; solved is not"),
        (HEAD + "variants: []", "s.yaml:4: variants: is an empty list; leave it out"),
        (HEAD + "variants: [a, a]", "s.yaml:4: variants[1]: names 'a' twice"),
        (HEAD + "variants: {a: {st: {}}}", "s.yaml:4: variants.a.st: unknown key 'st'; did you mean 'set'?"),
        (HEAD + "variants: {a__b: {}}", "variants.a__b: 'a__b' is not a name"),
        (HEAD + "variants: 3", "variants: must be a list of names or a mapping, not 3"),
        (HEAD + "grid: {depth: 3}", "s.yaml:4: grid.depth: must be a list of values, not 3; write [3]"),
        (HEAD + "grid: {depth: [3, 3]}", "grid.depth: names a value twice: [3, 3]"),
        (HEAD + "set: 3", "s.yaml:4: set: must be a mapping of parameters, not 3"),
        (HEAD + "grid: {lr: [1]}\ntune: {lr: [1]}", "rows[0]: 'lr' is on the grid and tuned"),
        (HEAD + "metric: train_loss\ntune: {lr: [1]}", "tune: is chosen on the validation split"),
        (
            HEAD + "evaluate: {drop: 0.1}",
            "evaluate.drop: nothing is lost on perfect links; add links: as_run",
        ),
        (HEAD + "evaluate: {links: as_run, drop: 2}", "evaluate.drop: must be at most 1, not 2"),
        (HEAD + "figure: {x: depth}", "s.yaml:4: figure.x: 'depth' is no axis of the grid"),
        (HEAD.replace("{small: {}}", "{}"), "budgets: must be"),
        (HEAD.replace("small: {}", "small: {grid: {depth: [1]}}"), "budgets.small.grid.depth: is no axis"),
        (HEAD.replace("[digits-mlp]", "[]"), "rows: must be a list of at least 1, not []"),
        (
            HEAD.replace("[digits-mlp]", "[{scenario: a, budgets: [smal]}]"),
            "rows[0].budgets: no budget 'smal'; did you mean 'small'?",
        ),
        (
            HEAD.replace("[digits-mlp]", "[{scenario: a, paper: [{variant: b, sure: verbatim, source: c}]}]"),
            "rows[0].paper[0]: needs either a value, or over (an axis) and values",
        ),
        (
            HEAD.replace(
                "[digits-mlp]", "[{scenario: a, paper: [{variant: b, value: 1, sure: sure, source: c}]}]"
            ),
            "rows[0].paper[0].sure: unknown sure 'sure'",
        ),
        (
            HEAD.replace(
                "[digits-mlp]", "[{scenario: a, paper: [{variant: b, value: 1, sure: verbatim, source: c}]}]"
            )
            + "variants: [bb]",
            "rows[0].paper[0].variant: no variant 'b'; did you mean 'bb'?",
        ),
        (
            HEAD.replace(
                "[digits-mlp]",
                "[{scenario: a, paper: [{variant: b, over: x, values: {1: 2}, sure: verbatim, source: c}]}]",
            ),
            "rows[0].paper[0].over: no axis 'x'",
        ),
        ("study: [", "s.yaml:1: broken YAML"),
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
    spec = some(find_study(tmp_path / "mine.yaml"))
    assert [row.scenario for row in spec.rows] == ["digits-mlp", str(tmp_path / "own.yaml")]
    assert find_study("dni-split") == find_study("dni-split")
    assert find_study("digits-mlp") is None
    assert find_study("nothing") is None
    (tmp_path / "scenario.yaml").write_text(load("digits-mlp").text)
    assert find_study(tmp_path / "scenario.yaml") is None
    (tmp_path / "broken.yaml").write_text("study: toy\nrows: 3\n")
    with pytest.raises(ScenarioError, match=r"broken\.yaml:2: rows: must be a list, not 3"):
        find_study(tmp_path / "broken.yaml")


def test_names_of_studies_and_scenarios_differ_and_files_are_called_as_their_studies() -> None:
    assert not set(study_names()) & set(library_names())
    for name in study_names():
        spec = some(find_study(name))
        assert spec.study == name
        assert spec.description


def test_figures_of_papers_say_where_they_are_from() -> None:
    for name in study_names():
        spec = some(find_study(name))
        for row in spec.rows:
            for paper in row.paper:
                assert paper.source
                if paper.sure == "unverified":
                    assert "memory" in paper.source
