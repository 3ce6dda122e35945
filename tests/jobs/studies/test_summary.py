"""The table of a study worked out by hand: means, recovered per group (semantics 35), choice on validation, divergence, cells."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from antiphon.jobs.studies.plan import Line, StudyPlan
from antiphon.jobs.studies.scoring import Finished, Scoring
from antiphon.jobs.studies.summary import summary
from antiphon.jobs.studies.table import heading, notes, tables, write_tables
from antiphon.scenarios.study_spec import StudySpec

Runs = Mapping[str, Mapping[int, Finished]]


def finished(ended: str = "done", validation: dict[str, float] | None = None, **metrics: float) -> Finished:
    """Return a run with metrics of its readout `b`; `solved` is of the environment."""
    env = {name: metrics.pop(name) for name in ("solved",) if name in metrics}
    result = {"readout": "b", "agents": {"b": {"loss": 2.0, **metrics}}, "env": env}
    result |= {"exit": ended, "seconds": 2.0, "examples": 400}
    return Finished(result, {} if validation is None else {"validation": validation})


def line(
    variant: str, point: Mapping[str, Any] | None = None, tuned: Mapping[str, Any] | None = None
) -> Line:
    return Line(point or {}, variant, Scoring(), tuned or {f"{variant}{point or ''}": {}})


def plan_of(lines: list[Line], metric: str | list[str] = "accuracy") -> StudyPlan:
    document = {"study": "toy", "scenario": "digits-mlp", "budgets": {"small": {}}, "metric": metric}
    return StudyPlan(StudySpec.model_validate(document), "small", 2, lines, {}, {})


def lines_of(metric: str = "accuracy", of: str = "accuracy", **variants: list[float]) -> list[dict[str, Any]]:
    """Return the table's lines of variants with these figures over seeds."""
    runs = {
        name: {seed: finished(**{of: value}) for seed, value in enumerate(values)}
        for name, values in variants.items()
    }
    return summary(plan_of([line(name) for name in variants], metric), runs)


def study_of(lines: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    study = {"study": "toy", "budget": "small", "steps": [8], "seeds": 2, "lines": lines}
    study |= {"axes": list(lines[0]["point"]), "tuned": {}, "failed": {}}
    return study | changes


def column(study: dict[str, Any], heading: str) -> list[str]:
    (table,) = tables(study)
    return [row[table.headings.index(heading)] for row in table.rows]


def test_variants_are_compared_with_locked_and_detached() -> None:
    locked, _, local = lines_of(locked=[0.90, 0.92], detached=[0.50, 0.52], local=[0.70, 0.72])
    assert local["recovered"]["denominator"] == pytest.approx(0.4)
    assert (locked["recovered"]["value"], local["recovered"]["value"]) == (1.0, pytest.approx(0.5))
    assert local["seconds"] == 2.0


def test_errors_losses_and_what_was_solved_recover_what_accuracies_do() -> None:
    """A loss is no share; of errors and losses less is better, of what was solved more."""
    scores = {"locked": [0.90, 0.92], "detached": [0.50, 0.52], "local": [0.70, 0.74]}
    accuracy, error = lines_of(**scores)[2], lines_of("error", **scores)[2]
    assert error["mean"]["value"] == pytest.approx(0.28)
    for key in ("value", "low", "high"):
        assert error["recovered"][key] == pytest.approx(accuracy["recovered"][key])
    losses = {"locked": [1.5, 1.51], "detached": [9.5, 9.51], "local": [3.5, 3.51]}
    found = lines_of("loss", "loss", **losses)
    assert found[2]["recovered"]["value"] == pytest.approx(0.75)
    assert found[1]["mean"]["high"] > 9.5
    assert column(study_of(found), "loss")[0] == "1.5050 ± 0.0071"
    solved = {"locked": [5.0, 5.01], "detached": [1.0, 1.01], "local": [4.0, 4.01]}
    found = lines_of("solved", "solved", **solved)
    assert found[2]["recovered"]["value"] == pytest.approx(0.75)
    assert column(study_of(found), "solved")[0] == "5.0050 ± 0.0071"


def test_recovered_is_undefined_within_three_standard_errors(tmp_path: Path) -> None:
    found = lines_of(locked=[0.90, 0.60], detached=[0.50, 0.52], local=[0.70, 0.72])
    assert found[2]["recovered"] is None
    write_tables(tmp_path, study_of(found))
    with (tmp_path / "table.csv").open() as file:
        assert [row["recovered"] for row in csv.DictReader(file)] == [""] * 3
    for one in (found, lines_of(locked=[0.9, 0.91], local=[0.7, 0.71])):  # it needs both references
        (table,) = tables(study_of(one))
        assert "recovered [95 %]" not in table.headings


def test_a_diverged_run_is_counted_but_not_averaged() -> None:
    runs: Runs = {
        "locked": {0: finished(accuracy=0.9), 1: finished("diverged", accuracy=0.1)},
        "local": {0: finished("diverged", accuracy=0.1)},
    }
    locked, local = summary(plan_of([line("locked"), line("local")]), runs)
    assert (locked["mean"]["value"], locked["n"], locked["diverged"]) == (0.9, 1, 1)
    assert (local["mean"], local["n"]) == (None, 0)
    study = study_of([locked, local])
    assert column(study, "variant") == ["locked (1 diverged)", "local (1 diverged)"]
    assert column(study, "accuracy %") == ["90.00", "–"]


def test_values_are_chosen_on_validation_never_on_test() -> None:
    """Those that diverge are chosen last; errors choose as accuracies do."""
    tuned = line("locked", tuned={"a": {"lr": 0.1}, "b": {"lr": 0.2}, "c": {"lr": 0.3}})

    def of(test: float, *validation: float) -> dict[int, Finished]:
        scores = [{"accuracy": value, "error": 1 - value} for value in validation]
        return {seed: finished(accuracy=test, validation=score) for seed, score in enumerate(scores)}

    runs = {
        "a": of(0.9, 0.5, 0.5),
        "b": of(0.6, 0.7, 0.4),
        "c": {0: of(0.9, 0.9)[0], 1: finished("diverged")},
    }
    for metric, mean, validation in (("accuracy", 0.6, 0.55), ("error", 0.4, 0.45)):
        (found,) = summary(plan_of([tuned], metric), runs)
        assert (found["tuned"], found["runs"]) == ({"lr": 0.2}, "b")
        assert (found["mean"]["value"], found["validation"]) == pytest.approx((mean, validation))


def test_cells_and_notes_read_well() -> None:
    found = lines_of(locked=[0.90, 0.92], detached=[0.50, 0.52], local=[0.70, 0.76])
    study = study_of(found, tuned={"lr": [0.1, 0.2]}, failed={"local-s1": "out of memory"})
    for one in found:
        one["tuned"] = {"lr": 0.1}
    (table,) = tables(study)
    headings = "variant, lr, accuracy %, 95 % interval, n, recovered [95 %], seconds"
    assert (", ".join(table.headings), table.names) == (headings, 2)
    assert ", ".join(table.rows[2]) == "local, 0.1, 73.00 ± 4.24, 34.88 – 111.12, 2, 0.55 [-0.09 – 1.19], 2.0"
    assert heading(study) == "toy, budget small: 8 steps, 2 seeds"
    several = study | {"budget": "default", "steps": [8, 2000], "seeds": 1}
    assert heading(several) == "toy: 8 – 2,000 steps, 1 seed"
    assert notes(study)[1:] == [
        "lr: of 0.1, 0.2, for each line the one that was best on the validation split.",
        "local-s1: missing, out of memory.",
    ]
