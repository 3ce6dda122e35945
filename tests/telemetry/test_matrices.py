"""Pictures of matrices, profiles and clouds: they are written, and what cannot be written is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from antiphon.telemetry import pictures
from antiphon.telemetry.pictures import draw_clouds, draw_matrices, draw_profiles

pytest.importorskip("matplotlib")

RANDOM = np.random.default_rng(0)
NAMES = ["a", "$b^", "a_name_that_is_long"]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_matrices_stand_side_by_side(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_PANELS", 7)
    shown = {f"$n_{i}": RANDOM.random((5, 5)) for i in range(count)}
    figure = draw_matrices(shown, tmp_path / "m.png", boundaries=[2.0])
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == min(count, 7)
    assert panels[0].get_title() == "$n_0"


def test_rows_may_be_named(tmp_path: Path) -> None:
    figure = draw_matrices({"like": np.eye(3)}, tmp_path / "m.svg", names=NAMES)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == NAMES
    assert (tmp_path / "m.svg").stat().st_size > 0


def test_profiles_have_a_line_for_each_kind(tmp_path: Path) -> None:
    profiles = {"train": dict.fromkeys(NAMES, 0.5), "te$t": {NAMES[2]: 1.0}}
    axes = draw_profiles(profiles, tmp_path / "p.png", label="accuracy", low=0.0, high=1.0).axes[0]
    assert [line.get_label() for line in axes.lines] == ["train", "te$t"]
    assert list(axes.lines[1].get_xdata()) == [2]
    assert axes.get_ylim() == (0.0, 1.0)


def test_clouds_have_a_panel_each_and_not_too_many_points(tmp_path: Path) -> None:
    clouds = {"a->b": (np.arange(5.0), np.arange(5.0)), "b->c": (RANDOM.random((9000, 2)),) * 2}
    figure = draw_clouds(clouds, tmp_path / "c.png", across="implied", up="true")
    points = [len(axes.collections[0].get_offsets()) for axes in figure.axes]
    assert points[0] == 5
    assert 2000 < points[1] <= 4000


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "other"):
        draw_matrices({"m": np.eye(4)}, tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
