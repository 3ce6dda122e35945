"""What is told of a run's channels at its end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from antiphon.telemetry import read_run
from antiphon.telemetry.tab.verdict_series import newest_verdicts
from tests.telemetry.tab.writing import write

NAN = math.nan


def test_where_nothing_is_defined_at_the_end_the_newest_step_that_resolves_is_told(tmp_path: Path) -> None:
    low, high = (f"antiphon/channel/value_{end}" for end in ("low", "high"))
    rows = {
        1: {low: [-2, -1], high: [-1, 1]},
        2: {low: [-1, NAN], high: [1, NAN]},
        3: {low: [NAN] * 2, high: [NAN] * 2},
    }
    write(tmp_path / "run", rows)
    data = read_run(tmp_path / "run")
    found = newest_verdicts(data)
    assert found is not None
    assert found[2].startswith("undefined at step 3 (0 help, 1 harms of 2 at step 1), ")
    by_losses = {data.graph["channels"][1]["name"]: "harms"}
    judged = newest_verdicts(replace(data, undefined={"value": {"step": 3, "judged": by_losses}}))
    assert judged is not None
    assert judged[2].startswith("0 help, 1 harms, 0 unresolved, "), "by its losses, as on the page"
