"""Returns and value targets of runs that earlier versions began, and their titles."""

from __future__ import annotations

import numpy as np

from antiphon.telemetry import Series
from antiphon.telemetry.tab.explanations import EXPLANATIONS
from antiphon.telemetry.tab.series import present_names, renamed


def test_the_tab_tells_them_apart_too() -> None:
    def series(**rows: float) -> Series:
        return Series(
            np.array([*map(int, (step[1:] for step in rows))]),
            np.array([[v] for v in rows.values()], np.float32),
        )

    old = {("agent", "return"): series(s4=1.5)}
    both = {("agent", "return"): series(s4=1.5, s8=20.0), ("agent", "value_target"): series(s8=2.5)}
    for written, returns, targets in ((old, None, [1.5]), (both, [20.0], [1.5, 2.5])):
        assert ("agent", "value_target") in present_names(written)
        assert (("agent", "return") in present_names(written)) == (returns is not None)
        for metric, values in (("return", returns), ("value_target", targets)):
            found = renamed(lambda *key, written=written: written.get(key), "agent", metric)
            assert (None if found is None else found.values[:, 0].tolist()) == values
    assert EXPLANATIONS["agent"]["return"].title == "training return"
    assert EXPLANATIONS["agent"]["validation_return"].title == "validation return"
