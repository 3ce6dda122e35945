"""Films: frames that show what they are given, durations, what is left out, and one-line refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from PIL import Image

from antiphon.errors import RunError
from antiphon.telemetry import film
from antiphon.telemetry.film import FilmFrame, PackedPicture, SentMessage, check_film, write_film


def graph() -> nx.MultiDiGraph[str]:
    found: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    found.add_node("sensor")
    found.add_node("motor", role="readout")
    found.add_edge("sensor", "motor", key=0, coupling="decoupled")
    return found


def message(*values: float, symbols: tuple[int, ...] | None = None, new: bool = True) -> SentMessage:
    return SentMessage(np.array(values, np.float32), symbols, new)


def frame(step: int = 1, **facts: Any) -> FilmFrame:
    picture = PackedPicture.of(np.full((20, 30, 3), (40 * step) % 256, np.uint8))
    given = {"episode": 1, "step": step, "reward": 1.0, "total": float(step), "ticks": frozenset({"motor"})}
    return FilmFrame(picture=picture, **(given | facts))


def written(path: Path, *frames: FilmFrame, fps: float = 30.0) -> list[np.ndarray[Any, Any]]:
    write_film(path, graph(), frames, title="team", fps=fps)
    with Image.open(path) as image:
        found = []
        for place in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(place)
            found.append(np.asarray(image.convert("RGB")))
        return found


def test_the_picture_of_the_world_is_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    (found,) = written(tmp_path / "a.gif", frame(2))
    grey = (np.abs(found.astype(int) - 80).max(2) < 8)[30:]
    rows, columns = np.flatnonzero(grey.any(1)), np.flatnonzero(grey[:300].sum(0) > 200)
    assert (rows[0], len(columns)) == (0, 16 * 30)  # 480 / 30, 360 / 20


def test_a_louder_message_is_a_wider_channel(tmp_path: Path) -> None:
    frames = [frame(1, sent={"sensor->motor": message(value, 0.0)}) for value in (0.1, 1.0, 4.0)]
    stage = film._Stage(graph(), frames, "team")
    line, _, colour = stage._channels["sensor->motor"]
    x, y = (round(value) for value in line[-2])
    paint = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
    widths = []
    for one in frames:
        column = np.asarray(stage.draw(one))[y - 12 : y + 13, x]
        widths.append(int((column == paint).all(1).sum()))
    assert widths[0] < widths[1] < widths[2]
    assert widths[2] == 9


def test_every_fact_of_a_step_changes_its_frame() -> None:
    usual = frame(1, sent={"sensor->motor": message(1.0, -1.0)}, actions={"motor": "0"})
    others = [
        frame(1, sent={"sensor->motor": message(-1.0, 1.0)}, actions={"motor": "0"}),
        frame(1, sent={"sensor->motor": message(1.0, -1.0, new=False)}, actions={"motor": "0"}),
        frame(1, sent={"sensor->motor": message(1.0, -1.0, symbols=(3, 4))}, actions={"motor": "0"}),
        frame(1, sent={"sensor->motor": message(1.0, -1.0)}, actions={"motor": "1"}),
        frame(1, sent={"sensor->motor": message(1.0, -1.0)}, actions={"motor": "0"}, ticks=frozenset()),
        frame(1, sent={"sensor->motor": message(1.0, -1.0)}, actions={"motor": "0"}, total=7.0),
        frame(1, sent={"sensor->motor": message(1.0, -1.0)}, actions={"motor": "0"}, reward=-1.0),
        frame(1, actions={"motor": "0"}),
        frame(1, sent={"sensor->motor": message(float("nan"), float("inf"))}, actions={"motor": "0"}),
    ]
    stage = film._Stage(graph(), [usual, *others], "team")
    drawn = [stage.draw(one).tobytes() for one in (usual, *others)]
    assert len(set(drawn)) == len(drawn)


def test_a_short_film_is_slow_enough_to_be_read(tmp_path: Path) -> None:
    for count, milliseconds in ((4, 500), (32, 250), (300, 30)):
        path = tmp_path / f"{count}.gif"
        frames = [frame(1, total=float(step)) for step in range(count)]
        assert write_film(path, graph(), frames, title="team", fps=100) == 1
        with Image.open(path) as image:
            assert image.n_frames == count  # type: ignore[attr-defined]
            assert image.info["duration"] == milliseconds
            image.seek(count - 1)
            assert image.info["duration"] == 1500


def test_of_a_long_film_some_steps_are_drawn_the_last_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "_MOST", 4)
    calls: list[None] = []
    frames = [frame(1, total=float(step)) for step in range(10)]
    path = tmp_path / "long.gif"
    every = write_film(path, graph(), frames, title="team", fps=30, on_frame=lambda: calls.append(None))
    with Image.open(path) as image:
        assert (every, image.n_frames, len(calls)) == (3, 4, 4)  # type: ignore[attr-defined]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"team\.mp4: a film is a GIF; let the file's name end in \.gif"):
        check_film(tmp_path / "team.mp4")
    with pytest.raises(RunError, match="cannot be written"):
        write_film(tmp_path / "nowhere" / "a.gif", graph(), [frame()], title="", fps=30)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RunError, match=r"a film needs Pillow: pip install 'antiphon\[plots\]'"):
        check_film(tmp_path / "a.gif")
