"""The Channels tab in TensorBoard: its entry point, its routes with both loaders, its scripts, and the event files that it reads."""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from antiphon.base.errors import RunError
from antiphon.telemetry import read_run
from antiphon.telemetry.event_file import EventFile
from antiphon.telemetry.tab.frontend import bundled, sheet, vendored
from antiphon.telemetry.tab.series import Messages, RunData
from tests.kit.tab import ChannelsLoader, cloud
from tests.telemetry.tab.serving import client, decoded, fast_data, get, wait_for
from tests.telemetry.tab.writing import graph, rows, write

TIMELINE = {"lines": ["step  1 2 3"]}


@pytest.fixture(params=["slow", "fast"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Return a function that serves a log directory, once all runs named in it are loaded."""
    with contextlib.ExitStack() as stack:

        def served(logdir: Path, *runs: str) -> Client:
            if request.param == "slow":
                return client(logdir)
            data = stack.enter_context(fast_data(logdir, tmp_path / "port"))
            found = client(logdir, data)
            wait_for(lambda: set(get(found, "runs").json) == set(runs))
            return found

        yield served


def test_every_route_of_a_run(tmp_path: Path, serve: Callable[..., Client]) -> None:
    generator = np.random.default_rng(0)
    samples = [generator.normal(size=(5, 4)).astype(np.float32) for _ in range(2)]
    clouds = {step: {"antiphon/messages/1": array} for step, array in zip((1, 3), samples, strict=True)}
    logged = {step: {**values, **clouds.get(step, {})} for step, values in rows([1, 2, 3]).items()}
    write(tmp_path / "runs/a", logged, timeline=TIMELINE)
    write(tmp_path / "runs/b/s0", rows([1]))  # the newest run comes first
    EventFile(tmp_path / "runs/empty").close()
    found = serve(tmp_path / "runs", "a", "b/s0")
    assert get(found, "runs").json == ["b/s0", "a"]
    assert get(found, "graph", run="a").json == graph()
    assert get(found, "timeline", run="a").json == TIMELINE
    first, second = (get(found, "catalog", run=run).json for run in ("a", "b/s0"))
    for own in (first, second):
        assert [heading for heading, _ in own.pop("groups")["agent"]][:3] == [
            "Objective",
            "Policy",
            "Learning",
        ]
    catalog = {"agent": ["loss"], "channel": ["age"], "part": [], "sampled": False, "parts": False}
    assert first == {**catalog, "messages": [1], "timeline": True}
    assert second == {**catalog, "messages": [], "timeline": False}
    steps, values = decoded(get(found, "metric", run="a", kind="agent", metric="loss"))
    assert (steps, values.tolist()) == ([1, 2, 3], [[1, -1], [2, -2], [3, -3]])
    steps, values = decoded(get(found, "metric", run="b/s0", kind="channel", metric="age"))
    assert (steps, values.tolist()) == ([1], [[1, 1.5]])
    response = get(found, "cloud", run="a", channel=1)
    assert response.data == cloud(Messages(np.array([1, 3]), samples)).pack()
    assert response.content_type == "application/octet-stream"


@pytest.mark.cases(1)
def test_a_resumed_run_shows_each_step_once(tmp_path: Path, serve: Callable[..., Client]) -> None:
    write(tmp_path / "runs/a", rows([1, 2, 3, 4]), timeline=TIMELINE)
    write(tmp_path / "runs/a", rows([3, 5], scale=10.0), start=2, document=graph(seed=1))
    found = serve(tmp_path / "runs", "a")
    steps, values = decoded(get(found, "metric", run="a", kind="agent", metric="loss"))
    assert (steps, values[:, 0].tolist()) == ([1, 2, 3, 5], [1, 2, 30, 50])
    assert get(found, "graph", run="a").json["seed"] == 1
    assert get(found, "timeline", run="a").status_code == 200


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A client of a run with everything, read by the slow loader."""
    logdir = tmp_path_factory.mktemp("runs")
    clouds = {"antiphon/messages/0": np.ones((2, 3))}
    write(logdir / "a", {**rows([1, 2]), 3: clouds}, timeline=TIMELINE)
    (logdir / "secret.txt").write_text("secret")
    return client(logdir)


def test_no_other_file_is_served(ready: Client) -> None:
    climbing = ("../plugin.py", "%2e%2e/plugin.py", "..%2fplugin.py", "vendor/../../plugin.py", "/etc/passwd")
    odd = ("", "%00", "vendor", "vendor/", "vendor/uPlot.min.css%00", "*")
    others = ("../../../secret.txt", "secret.txt", "app.js", "index.js/..")
    for path in (*(f"static/{path}" for path in climbing + odd), *others):
        response = ready.get(f"/data/plugin/antiphon/{path}")
        assert (response.status_code, response.text) == (404, "Not found"), path
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_own_files_have_their_types_and_none_is_html(ready: Client) -> None:
    entry = get(ready, "index.js")
    assert entry.content_type == "text/javascript; charset=utf-8"
    module = entry.text.split('"')[1].removeprefix("./")
    folder = Path(__file__).parents[3] / "telemetry/tab/static"
    kinds = {".js": "text/javascript", ".css": "text/css", ".LICENSE": "text/plain"}
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} <= set(kinds)
    for path in paths:
        response = get(ready, f"static/{path.relative_to(folder).as_posix()}")
        assert response.data == path.read_bytes()
        assert response.content_type == kinds[path.suffix] + "; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert (folder.parent / module).is_file()


@pytest.mark.parametrize(
    ("every", "steps", "kept", "sampled"),
    [
        (1, range(1, 21), 20, False),
        (1, range(1, 21), 19, True),
        (10, [1, 10, 20, 40], 3, True),
    ],
)
def test_whether_rows_are_missing_is_said(
    tmp_path: Path, every: Any, steps: list[int], kept: int, sampled: bool
) -> None:
    write(tmp_path / "a", rows(steps), document=graph(every=every))
    found = client(tmp_path, samples_per_plugin={"antiphon": kept})
    assert get(found, "catalog", run="a").json["sampled"] is sampled
    served, _ = decoded(get(found, "metric", run="a", kind="agent", metric="loss"))
    assert len(served) == (min(kept, len(steps)) if kept else len(steps))
    assert served[-1] == steps[-1]


# --- event files -----------------------------------------------------------------------------------------


def steps(run: RunData, family: Any = "agent", metric: str = "loss") -> list[int]:
    return run.metrics[family, metric].steps.tolist()


@pytest.mark.parametrize("lost", [1, 3, 4, 9, 60])
def test_a_torn_end_is_read_up_to_there(tmp_path: Path, lost: int) -> None:
    path = write(tmp_path, rows([1, 2, 3]))
    path.write_bytes(path.read_bytes()[:-lost])
    assert steps(read_run(tmp_path)) == [1, 2]


def test_a_folder_without_event_files_and_a_run_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"^{tmp_path}: no event file found; pass "):
        read_run(tmp_path)
    events = EventFile(tmp_path)
    events.scalars(1, [("loss", 1.0)])
    events.close()
    with pytest.raises(RunError, match="no data for the Channels tab; pass ") as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows([1]), document={"format": 1, "nodes": []})
    with pytest.raises(RunError, match="its Channels tab has format 1, this version of antiphon reads 2"):
        read_run(tmp_path)


# --- the entry point -------------------------------------------------------------------------------------


def context(**changes: Any) -> Any:
    return base_plugin.TBContext(data_provider=object(), sampling_hints={"antiphon": 7}, **changes)


@pytest.mark.long
def test_neither_torch_nor_matplotlib_is_imported() -> None:
    names = "print(*sorted({n.split('.')[0] for n in sys.modules}))"
    code = f"import sys, antiphon.telemetry.tab.loader, antiphon.telemetry.tab.plugin; {names}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "tensorboard" in done.stdout.split()
    assert not {"torch", "matplotlib", "pandas", "networkx"} & set(done.stdout.split())


def test_an_error_of_ours_costs_the_tab_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = types.ModuleType("broken")
    monkeypatch.setitem(sys.modules, "antiphon.telemetry.tab.plugin", broken)
    with caplog.at_level(logging.WARNING):
        assert ChannelsLoader().load(context()) is None
    (said,) = caplog.messages
    assert said.startswith("TensorBoard has no Channels tab: ImportError: ")
    assert "\n" not in said


# --- scripts ---------------------------------------------------------------------------------------------


def test_the_front_end_keeps_to_the_rule() -> None:
    script = bundled()
    assert not re.search(r"^(import|export|await)\b|\bimport\s*[(.]", script, re.MULTILINE)
    declared = re.findall(
        r"^(?:async function|function\*?|class|const|let|var) ([\w$]+)", script, re.MULTILINE
    )
    assert [name for name, times in Counter(declared).items() if times > 1] == []
    assert {"mount", "EmbeddedSource"} <= set(declared)
    assert "uPlot" in vendored("uPlot.iife.min.js")
    for text in (script, vendored("uPlot.iife.min.js")):
        assert not re.search(r"</script|<!--", text, re.IGNORECASE)
    assert ".uplot" in sheet()
    assert ".ap" in sheet()
    assert not re.search(r"</style|@import|url\(", sheet(), re.IGNORECASE)
