"""Figures of studies: what is drawn, in which colours, and that the same study gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.studies.figures import draw_figure
from antiphon.errors import RunError


def line(
    variant: str, value: float | None, point: dict[str, Any], row: str = "a", **more: Any
) -> dict[str, Any]:
    ours = None if value is None else {"value": value, "low": value - 0.1, "high": value + 0.2, "sd": 0.1}
    return {"row": row, "point": point, "variant": variant, "ours": ours, "paper": None, "share": True} | more


def study(lines: list[dict[str, Any]], x: str | None, several: bool = False) -> dict[str, Any]:
    head = {"study": "toy", "budget": "small", "metric": "error", "steps": [5], "seeds": 2}
    return head | {"axes": ["depth"], "several": several, "x": x, "lines": lines, "further": []}


def test_a_line_for_every_variant_with_its_interval_and_the_papers_points(tmp_path: Path) -> None:
    paper = {"value": 0.3, "sure": "verbatim", "source": "p"}
    lines = [
        line("locked", 0.5, {"depth": 3}),
        line("local", 0.4, {"depth": 3}, paper=paper),
        line("locked", 0.6, {"depth": 9}),
        line("local", None, {"depth": 9}),
    ]
    figure = draw_figure(study(lines, "depth"), tmp_path / "figure.svg")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("depth", "error %")
    drawn = {container.get_label(): container for container in axes.containers}
    assert list(drawn) == ["locked", "local", "local (paper)"]
    assert drawn["locked"][0].get_xydata().tolist() == [[3.0, 50.0], [9.0, 60.0]]
    assert drawn["local"][0].get_xydata().tolist() == [[3.0, 40.0]]
    assert drawn["local (paper)"][0].get_xydata().tolist() == [[3.0, 30.0]]
    ends = drawn["locked"][2][0].get_segments()[0]
    assert ends.tolist() == [[3.0, pytest.approx(40.0)], [3.0, pytest.approx(70.0)]]
    assert drawn["locked"][0].get_color() != drawn["local"][0].get_color()
    assert drawn["locked"][0].get_marker() != drawn["local"][0].get_marker()
    assert "<svg" in (tmp_path / "figure.svg").read_text()


def test_rows_and_other_axes_have_panels_of_their_own(tmp_path: Path) -> None:
    lines = [
        line("locked", 0.5, {"depth": d, "width": w}, row)
        for row in ("a", "b")
        for w in (1, 2)
        for d in (3, 4)
    ]
    figure = draw_figure(study(lines, "depth", several=True), tmp_path / "figure.svg")
    assert [axes.get_title() for axes in figure.axes] == [
        "a, width 1",
        "a, width 2",
        "b, width 1",
        "b, width 2",
    ]


def test_words_on_the_axis_stand_one_after_the_other_unjoined(tmp_path: Path) -> None:
    lines = [line(v, 0.5, {"depth": word}) for word in ("deep", "flat") for v in ("locked", "local")]
    (axes,) = draw_figure(study(lines, "depth"), tmp_path / "figure.svg").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["deep", "flat"]
    first, second = axes.containers
    assert first[0].get_linestyle() == "None"
    assert first[0].get_xdata()[0] < second[0].get_xdata()[0] < first[0].get_xdata()[1]


def test_without_an_axis_the_lines_of_the_table_stand_one_under_the_other(tmp_path: Path) -> None:
    lines = [line("locked", 0.5, {"depth": 3}), line("local", None, {"depth": 3})]
    (axes,) = draw_figure(study(lines, None), tmp_path / "figure.svg").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["depth=3 locked", "depth=3 local"]
    assert axes.containers[0][0].get_xydata().tolist() == [[50.0, 0.0]]


@pytest.mark.parametrize("x", ["depth", None])
def test_every_metric_has_panels_of_its_own(tmp_path: Path, x: str | None) -> None:
    lines = [line(variant, 0.5, {"depth": 3}) for variant in ("locked", "local")]
    bits = [line(variant, 0.25, {"depth": 3}, share=False) for variant in ("locked", "local")]
    both = study(lines, x) | {"further": [{"metric": "b.bits", "lines": bits}]}
    first, second = draw_figure(both, tmp_path / "figure.svg").axes
    names = [(axes.get_ylabel() if x else axes.get_xlabel()) for axes in (first, second)]
    assert names == ["error %", "b.bits"]
    at = 1 if x else 0
    assert [axes.containers[0][0].get_xydata()[0][at] for axes in (first, second)] == [50.0, 0.25]
    assert [len(axes.containers) for axes in (first, second)] == [2, 2]


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    lines = [line("locked", 0.5, {"depth": 3})]
    for name in ("a.svg", "b.svg"):
        draw_figure(study(lines, "depth"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        draw_figure(study([line("locked", 0.5, {"depth": 3})], "depth"), tmp_path / "none/figure.svg")
