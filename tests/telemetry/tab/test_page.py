"""One file with everything in it: what it may do, what it holds, how large it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from antiphon.telemetry import RunData
from antiphon.telemetry.tab.series import Messages, Series
from tests.kit.some import some
from tests.kit.tab import cloud, page
from tests.telemetry.made import HOSTILE, Elements, data


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """A front end that does nothing."""
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "uPlot.iife.min.js").write_text("var uPlot = 1;\n")
    (tmp_path / "vendor" / "locale.js").write_text("")
    (tmp_path / "app.js").write_text("export function mount(root, source, options) {}\n")
    (tmp_path / "source.js").write_text("export class EmbeddedSource {}\n")
    (tmp_path / "style.css").write_text(".ap { color: red; }\n")
    return tmp_path


def embedded(text: str) -> list[dict[str, object]]:
    found = some(
        re.search(r'<script type="application/json" id="antiphon-data">(.*?)</script>', text, re.DOTALL)
    )
    runs: list[dict[str, object]] = json.loads(found[1])["runs"]
    return runs


def unpacked(text: str) -> bytes:
    """Return an array of a page as it was packed."""
    return zlib.decompress(base64.b64decode(text))


def test_the_page_holds_the_runs_as_the_front_end_reads_them(static: Path) -> None:
    text = page([data("first"), data("second")], title="two", static=static)
    assert [run["run"] for run in embedded(text)] == ["first", "second"]
    assert embedded(text)[0] == json.loads(json.dumps(data("first").embedded()))
    assert "mount(root, new EmbeddedSource(data))" in text


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_be_fetched(static: Path) -> None:
    text = page([data()], title="t", static=static)
    policy = some(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text))
    assert policy[1].startswith("default-src &#x27;none&#x27;; script-src &#x27;sha256-")
    assert "connect-src" not in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" in policy[1].replace("&#x27;", "'")
    assert Elements(text).addresses == []


def test_names_are_text_wherever_they_stand(static: Path) -> None:
    tame = page([data("run", ("one", "two"))], title="title", static=static)
    assert page([data("\ud800")], title="\ud800", before="\ud800", static=static).encode()
    for place, name in enumerate(HOSTILE):
        agents = (name, HOSTILE[place - 1])
        hostile = page([data(name, agents)], title=name, static=static)
        assert Elements(hostile).found == Elements(tame).found
        (run,) = embedded(hostile)
        assert run["run"] == name


def test_numbers_that_are_none_are_kept(static: Path) -> None:
    run = data()
    values = run.metrics["channel", "sg_loss"].values
    values[0, 0] = np.nan
    (found,) = embedded(page([RunData("n", run.graph, None, run.metrics)], title="t", static=static))
    packed = unpacked(found["metrics"]["channel/sg_loss"])  # type: ignore[index]
    assert np.isnan(np.frombuffer(packed[8 + 3 * 8 :], "<f4")[0])


def test_numbers_are_compressed_and_points_of_messages_have_the_digits_of_a_plot(static: Path) -> None:
    """A metric that is constant takes a few bytes; of messages less than three quarters of them."""
    draws = np.random.default_rng(0)
    run = data()
    values = np.full((500, 2), 0.25, np.float32)
    samples = [np.c_[draws.normal(size=(64, 4)), draws.integers(10, size=64)].astype("<f4") for _ in range(8)]
    made = replace(
        run,
        metrics={("channel", "age"): Series(np.arange(500), values)},
        messages={0: Messages(np.arange(8), samples)},
    )
    (found,) = embedded(page([made], title="t", static=static))
    (age,), (text,) = found["metrics"].values(), found["clouds"].values()  # type: ignore[attr-defined]
    assert len(age) < values.nbytes / 4
    exact, packed = cloud(made.messages[0]), unpacked(text)
    points = np.frombuffer(packed[16 + 8 * 8 :], "<f4", exact.points.size)
    assert len(text) < 0.7 * len(packed)
    assert np.abs(points - exact.points.ravel()).max() < 0.001 * np.abs(exact.points).max()
    assert np.array_equal(
        np.frombuffer(packed[-exact.labels.nbytes :], "<f4"), exact.labels.ravel(), equal_nan=True
    )
