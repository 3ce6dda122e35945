"""Which channels matter: as measured, as logged, and as nobody has looked yet."""

from __future__ import annotations

import re
from typing import Any

import pytest

from antiphon.telemetry.report.ranking import ablation_of, ranking, value_of
from antiphon.telemetry.report.run import Table
from tests.some import some
from tests.telemetry.report.made import Elements, run

ABLATION = {
    "kind": "zero",
    "split": "test",
    "step": 30,
    "channels": {
        "b->a": {
            "readouts": {"loss": {"change": 0.1, "half": 0.2}, "accuracy": {"change": -0.01, "half": 0.002}}
        },
        "a->b": {
            "readouts": {"loss": {"change": 0.5, "half": 0.1}, "accuracy": {"change": -0.2, "half": None}}
        },
    },
}
VALUE = {
    "step": 30,
    "horizon": 50,
    "rows": [
        {
            "name": "all channels",
            "value": 0.6,
            "low": 0.5,
            "high": 0.7,
            "zero": 3.0,
            "synthetic": 2.0,
            "true": 1.0,
        },
        {"name": "a->b", "value": 0.2, "low": -0.1, "high": 0.5, "zero": 1.0, "synthetic": 1.0, "true": 1.0},
        {"name": "b->a", "value": 0.9, "low": 0.8, "high": 1.0, "zero": 1.0, "synthetic": 1.0, "true": 1.0},
        {"name": "c->a", "value": None, "low": None, "high": None, "why": "nothing to tell"},
    ],
    "alignment": {
        "a->b": {"cosine": 0.25, "cosine_ceiling": 0.5},
        "b->a": {"cosine": 0.8, "cosine_ceiling": 0.9, "parameter_cosine": -0.1},
    },
}


def test_ablation_is_ranked_with_its_interval() -> None:
    found = some(ablation_of(run(measured={"ablation": ABLATION})))
    first, second = found.bars
    assert (first.name, first.value, first.weak) == ("a->b", 0.5, False)
    assert (first.low, first.high) == (pytest.approx(0.4), pytest.approx(0.6))
    assert (second.name, second.weak) == ("b->a", True)
    assert found.headings == ["accuracy, points"]
    assert found.cells == {"a->b": ["−20.0"], "b->a": ["−1.00 ± 0.20"]}


def test_values_are_ranked_below_that_of_all_channels_together() -> None:
    found = some(value_of(run(measured={"value": VALUE})))
    assert [bar.name for bar in found.bars] == ["all channels", "b->a", "a->b", "c->a"]
    assert found.bars[-1].value is None
    assert found.cells["a->b"] == ["1.00", "1.00", "1.00", "0.250", "0.500", "–"]
    assert found.cells["b->a"][-1] == "−0.100"
    caution, nothing = found.notes
    assert caution.startswith("b->a: its signal is like the true gradient message by message (cosine 0.80)")
    assert nothing == "c->a: nothing to tell"


def test_what_the_run_logged_stands_in_for_what_was_not_measured() -> None:
    logged = {
        "a->b": {"value": (20, 0.5), "value_low": (20, 0.4), "value_high": (20, 0.6)},
        "b->a": {"ablation": (9, 1.0)},
    }
    found = some(value_of(run(table=Table(measured=logged))))
    assert (found.bars[0].value, found.bars[0].low, found.bars[0].high) == (0.5, 0.4, 0.6)
    assert found.about == "Newest figures of metrics.csv, step 20."
    logged["b->a"]["value"] = (1200, 0.25)
    found = some(value_of(run(table=Table(measured=logged))))
    assert found.about == "Newest figures of metrics.csv, each channel's own, steps 20 to 1,200."


def test_the_page_has_chart_table_and_what_to_beware_of() -> None:
    page = ranking([run(measured={"ablation": ABLATION, "value": VALUE})])
    found = Elements(page)
    assert found.count("svg") == 2
    assert found.count("table") == 2
    assert page.count('class="whisker"') == 5
    assert "it may as well help as harm" in found.text
    assert "Value: 2 of 3 matter, 0 harm, 1 unresolved" in found.texts
    assert "Not measured" not in found.text


def test_what_was_not_measured_names_the_command() -> None:
    found = Elements(ranking([run("my run", measured={"ablation": ABLATION}), run("two")]))
    assert "Not measured in 2 runs: loss by ablation and value. This measures it:" in found.texts
    assert "antiphon evaluate 'runs/my run' --value" in found.texts
    assert "antiphon evaluate runs/two --ablate zero --value" in found.texts
    assert "No run has channels" in ranking([run(result={}, data=None, table=Table())])


def test_of_many_channels_the_first_are_shown() -> None:
    changes = {f"c{n}": {"readouts": {"loss": {"change": float(n), "half": 0.1}}} for n in range(50)}
    page = ranking([run(measured={"ablation": {**ABLATION, "channels": changes}})])
    assert len(re.findall(r'class="bar"', page)) == 20
    assert "30 more channels are not shown." in page


@pytest.mark.parametrize(
    "measured",
    [
        {"ablation": None, "value": []},
        {
            "ablation": {"channels": {"a->b": {"readouts": {"loss": {"change": "x"}}}, "b": 3}},
            "value": {"rows": "x"},
        },
        {"ablation": {"channels": [1]}, "value": {"rows": [1, {"name": 3}, {"value": 2}]}},
    ],
)
def test_damaged_measurements_are_as_none(measured: dict[str, Any]) -> None:
    assert ablation_of(run(measured=measured)) is None
    assert value_of(run(measured=measured)) is None
