"""Of which step a run's verdicts are told: the tab opens there, and commands and reports speak of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from antiphon.telemetry import read_run
from antiphon.telemetry.tab.verdict_series import opening_verdicts
from tests.telemetry.tab.serving import client, get
from tests.telemetry.tab.writing import write

NAN = math.nan
OWN = {"own_gain": [-0.2, NAN], "own_gain_low": [-0.3, NAN], "own_gain_high": [-0.1, NAN]}
UNDEFINED = {f"value{end}": [NAN, NAN] for end in ("", "_low", "_high")}
ABLATION = {"ablation_zero": [0.5, NAN], "ablation_zero_low": [0.4, NAN], "ablation_zero_high": [0.6, NAN]}
Ends = tuple[list[float], list[float]]


@pytest.mark.parametrize(
    ("ends", "step", "line"),
    [
        (([-2, -1], [-1, 1]), 2, "0 help, 0 harm, 1 unresolved, 1 without a result of 2"),
        (([-1, NAN], [1, NAN]), 2, "0 help, 0 harm, 1 unresolved, 1 without a result of 2"),
        (([NAN, NAN], [NAN, NAN]), 3, "0 help, 0 harm, 0 unresolved, 2 without a result of 2"),
    ],
)
def test_it_is_the_newest_with_a_result_and_one_that_resolved_more_is_named_beside_it(
    ends: Ends, step: int, line: str, tmp_path: Path
) -> None:
    rows: dict[int, Ends] = {1: ends, 2: ([-1, NAN], [1, NAN]), 3: ([NAN, NAN], [NAN, NAN])}
    rows |= {2: ends} if step == 3 else {}
    names = [f"antiphon/channel/value{end}" for end in ("", "_low", "_high")]
    write(
        tmp_path / "run",
        {at: dict(zip(names, (low, low, high), strict=True)) for at, (low, high) in rows.items()},
    )
    data = read_run(tmp_path / "run")
    found = opening_verdicts(data)
    assert found is not None
    told = found.line.replace(", 0 stale, 0 silent", "")
    assert (found.measure, found.step, told) == ("value", step, line)
    for catalogue in (data.catalogue(), get(client(tmp_path), "catalog", run="run").json):
        value = catalogue["verdicts"]["measures"][0]
        assert (value["opens"], value["step"]) == (step, 3)
        resolved = ends[0] == [-2, -1]
        assert value["shown"] == (1 if resolved else step)
        assert value["says"] == ("1 harms, 1 unresolved" if resolved else {2: "1 unresolved", 3: ""}[step])


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        (OWN | UNDEFINED, "0 help, 0 harm, 0 unresolved, 2 without a result (1 worse than none) of 2"),
        (OWN, "1 worse than none of 2"),
        (
            OWN | UNDEFINED | ABLATION,
            "1 worse than none, 1 matters, 0 mislead, 0 unresolved, 1 without a result of 2",
        ),
    ],
)
def test_channels_worse_than_none_are_among_those_without_a_value_alone(
    metrics: dict[str, list[float]], line: str, tmp_path: Path
) -> None:
    write(tmp_path / "run", {1: {f"antiphon/channel/{name}": values for name, values in metrics.items()}})
    found = opening_verdicts(read_run(tmp_path / "run"))
    assert found is not None
    assert found.line.replace(", 0 stale, 0 silent", "") == line
