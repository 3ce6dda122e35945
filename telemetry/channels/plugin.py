"""TensorBoard plugin of the Channels tab: serves its files, and the values of one figure at a time."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from tensorboard import plugin_util  # type: ignore[import-untyped]
from tensorboard.backend import http_util  # type: ignore[import-untyped]
from tensorboard.data.provider import RunTagFilter  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from werkzeug.wrappers import Request, Response

from antiphon.errors import RunError, in_one_line
from antiphon.telemetry.channels.limits import DOCUMENT_BYTES, rows_within
from antiphon.telemetry.channels.reading import (
    Row,
    document_from,
    graph_from,
    messages_of,
    series_of,
)
from antiphon.telemetry.channels.series import Series, catalogue, cloud
from antiphon.telemetry.channels.tags import (
    GRAPH,
    PARTS,
    PLUGIN,
    SESSION,
    TIMELINE,
    VERDICTS,
    Family,
    figure_tag,
    messages_tag,
    parsed,
)
from antiphon.telemetry.channels.verdict_series import INPUTS, measuring_commands, verdict_series

__all__ = ["ChannelsPlugin"]

_log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".LICENSE": "text/plain"}
_ENTRY = b'export { render } from "./static/index.js";\n'
"""Entry module of the front end; the others are imported relative to it."""
_BINARY = "application/octet-stream"
_JSON = "application/json"
_EVERYTHING = 2**31 - 1
_INTEGER = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_NAME = 80
"""Characters of a name in an error, at most."""


class _Refusal(Exception):
    """Error of a request, with the status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Answer(NamedTuple):
    content: Any
    kind: str


class _Question:
    """A request, with access to TensorBoard's data.

    Args:
        request: Its parameters select runs and tags by name, nothing else.
        data: TensorBoard's data provider.
        most: Rows of a tag that are read at most.
    """

    def __init__(self, request: Request, data: Any, most: int) -> None:
        self._args = request.args
        self._data = data
        self._most = most
        self._whose = {
            "ctx": plugin_util.context(request.environ),
            "experiment_id": plugin_util.experiment_id(request.environ),
            "plugin_name": PLUGIN,
        }

    def maybe(self, name: str) -> str | None:
        """Return a parameter; None where it is missing. A repeated one is an error."""
        found = self._args.getlist(name)
        if len(found) > 1:
            raise _Refusal(400, f"{name}: given {len(found)} times; give it once")
        return found[0] if found else None

    def text(self, name: str) -> str:
        """Return a required parameter."""
        found = self.maybe(name)
        if not found:
            raise _Refusal(400, f"{name}: missing; say which")
        return found

    def integer(self, name: str) -> int | None:
        """Return a parameter that is an integer of at most 15 digits; None where it is missing."""
        found = self.maybe(name)
        if found is None:
            return None
        if not _INTEGER.fullmatch(found):
            raise _Refusal(400, f"{name}: {_short(found)} is no integer of at most 15 digits")
        return int(found)

    def series(self, *, run: str | None = None, tag: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the tags of runs with TensorBoard's metadata of each, such as `max_step`."""
        chosen = RunTagFilter(runs=None if run is None else [run], tags=None if tag is None else [tag])
        found = self._data.list_tensors(**self._whose, run_tag_filter=chosen)
        return cast("dict[str, dict[str, Any]]", found)

    def newest(self, run: str, tag: str) -> list[Row]:
        """Return the row of a tag that was written last; empty where there is none."""
        return self._read(run, tag, 1)

    def rows(self, run: str, tag: str, newest: Row) -> list[Row]:
        """Return the rows of a tag in the order of writing, an even sample where all are too many for one answer.

        Args:
            newest: The row that was written last; the others are about as large.
        """
        return self._read(run, tag, min(self._most, _answerable(tag, newest)))

    def newest_text(self, run: str, tag: str) -> bytes | None:
        """Return the text that was written last; None where there is none."""
        rows = self.newest(run, tag)
        text = rows[-1][1].item() if rows and rows[-1][1].ndim == 0 else None
        if not isinstance(text, bytes):
            return None
        if len(text) > DOCUMENT_BYTES:
            raise RunError(
                f"{_short(run)}: {tag} has {len(text):,} bytes, and at most {DOCUMENT_BYTES:,} are served"
            )
        return text

    def _read(self, run: str, tag: str, most: int) -> list[Row]:
        chosen = RunTagFilter(runs=[run], tags=[tag])
        found = self._data.read_tensors(**self._whose, downsample=most, run_tag_filter=chosen)
        return [(row.step, row.numpy) for row in found.get(run, {}).get(tag, ())]


class ChannelsPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """The Channels tab.

    Runs, tags and rows come from TensorBoard's data provider, so that it serves what TensorBoard has loaded and reads no
    file but its own scripts and styles, which are listed once, here.

    Args:
        context: TensorBoard's.
        samples: Rows of each figure that TensorBoard keeps where its hints do not name the plugin.
    """

    plugin_name = PLUGIN

    def __init__(self, context: Any, samples: int) -> None:
        self._data = context.data_provider
        self._logdir = str(getattr(context, "logdir", None) or "")
        self._kept = int((context.sampling_hints or {}).get(PLUGIN, samples))
        self._files = {
            path.relative_to(_STATIC).as_posix(): path
            for path in sorted(_STATIC.rglob("*"))
            if path.is_file() and path.suffix in _KINDS
        }

    def is_active(self) -> bool:
        """Return False: TensorBoard itself finds the data that bear the plugin's name, and then shows the tab."""
        return False

    def frontend_metadata(self) -> Any:
        """Return the path of the tab's script, and the tab's name."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Channels")

    def get_plugin_apps(self) -> dict[str, Any]:
        """Return the handler of each path; every file has a path of its own, and other paths have none."""
        apps = {f"/static/{name}": self._app(_file(path)) for name, path in self._files.items()}
        return apps | {
            "/index.js": self._app(lambda _: _Answer(_ENTRY, _KINDS[".js"])),
            "/runs": self._app(_runs),
            "/graph": self._app(_graph),
            "/timeline": self._app(_document(TIMELINE)),
            "/parts": self._app(_document(PARTS)),
            "/catalog": self._app(self._catalog),
            "/figure": self._app(_figure),
            "/cloud": self._app(_cloud),
        }

    def _app(self, answer: Callable[[_Question], _Answer]) -> Any:
        """Return the WSGI application of one path: a response, or an object with the error in one line."""

        @Request.application
        def app(request: Request) -> Response:
            try:
                if request.method not in ("GET", "HEAD"):
                    raise _Refusal(405, f"{_short(request.method)}: only GET is answered")
                content, kind = answer(_Question(request, self._data, self._kept or _EVERYTHING))
                return _respond(request, content, kind)
            except _Refusal as refusal:
                status, message = refusal.status, str(refusal)
            except RunError as error:
                status, message = 500, str(error)
            except Exception as error:  # noqa: BLE001  (damaged data may raise anything there)
                _log.warning("%s", in_one_line(f"{request.path}: {type(error).__name__}: {error}"))
                status, message = (
                    500,
                    f"the data cannot be read ({type(error).__name__}); TensorBoard's log says more",
                )
            return _respond(request, {"error": in_one_line(message)}, _JSON, status)

        return app

    def _catalog(self, question: _Question) -> _Answer:
        run = question.text("run")
        graph = graph_from(run, _graph_text(question, run))
        found = question.series(run=run).get(run, {})
        tags = {tag: parsed(tag) for tag in sorted(found)}
        figures = [what for what in tags.values() if isinstance(what, tuple)]
        last = max((found[tag].max_step for tag, what in tags.items() if isinstance(what, tuple)), default=0)
        longest = max(len(graph["agents"]), len(graph["channels"]), graph.get("parts") or 0)
        kept = min(self._kept or _EVERYTHING, rows_within(longest))
        verdicts = [VERDICTS] if any(("channel", metric) in figures for metric in INPUTS) else []
        # The folder as the log directory was given; the run's name where there are several.
        path = os.path.normpath(os.path.join(self._logdir, run))
        contents = catalogue(
            [*figures, *verdicts],
            [what for what in tags.values() if isinstance(what, int)],
            measuring_commands(path),
            timeline=TIMELINE in found,
            parts=PARTS in found,
            sampled=_written(graph.get("every"), last) > kept,
        )
        session = max(found[tag].max_wall_time for tag in (GRAPH, SESSION) if tag in found)
        return _Answer({**contents, "session": session}, _JSON)


def _file(path: Path) -> Callable[[_Question], _Answer]:
    def answer(_: _Question) -> _Answer:
        return _Answer(path.read_bytes(), _KINDS[path.suffix])

    return answer


def _runs(question: _Question) -> _Answer:
    return _Answer(sorted(run for run, tags in question.series(tag=GRAPH).items() if tags), _JSON)


def _graph(question: _Question) -> _Answer:
    run = question.text("run")
    text = _graph_text(question, run)
    graph_from(run, text)
    return _Answer(text, _JSON)


def _graph_text(question: _Question, run: str) -> bytes | None:
    text = question.newest_text(run, GRAPH)
    if text is None and not question.series(run=run, tag=GRAPH).get(run):
        raise _Refusal(404, f"{_short(run)}: no such run, or none with data of the Channels tab")
    return text


def _document(tag: str) -> Callable[[_Question], _Answer]:
    def answer(question: _Question) -> _Answer:
        run = question.text("run")
        text = question.newest_text(run, tag)
        if text is None:
            raise _Refusal(404, f"{_short(run)}: no {tag} there")
        document_from(run, text)
        return _Answer(text, _JSON)

    return answer


def _figure(question: _Question) -> _Answer:
    run, kind, metric = question.text("run"), question.text("kind"), question.text("metric")
    after = question.integer("after")
    if kind not in (*get_args(Family), VERDICTS[0]):
        raise _Refusal(400, f"kind: {_short(kind)} is none of {', '.join((*get_args(Family), VERDICTS[0]))}")
    read = partial(_series, question, run, after=after)
    if (kind, metric) == VERDICTS:
        graph = graph_from(run, _graph_text(question, run))
        series = verdict_series(partial(read, "channel"), graph)
    else:
        series = read(kind, metric)
    if series is None:
        raise _Refusal(404, f"{_short(run)}: no {kind} figure {_short(metric)} there")
    if after is not None:
        later = series.steps > after
        series = Series(series.steps[later], series.values[later])
    return _Answer(series.pack(), _BINARY)


def _series(question: _Question, run: str, kind: str, metric: str, *, after: int | None) -> Series | None:
    """Return the rows of a figure; the newest alone where none is after a step."""
    tag = figure_tag(cast(Family, kind), metric)
    rows = question.newest(run, tag)
    if rows and (after is None or any(step > after for step, _ in rows)):  # repeated requests cost little
        rows = question.rows(run, tag, rows[-1])
    return series_of(rows)


def _cloud(question: _Question) -> _Answer:
    run, channel = question.text("run"), question.integer("channel")
    if channel is None or channel < 0:
        raise _Refusal(400, "channel: missing or negative; give its number")
    tag = messages_tag(channel)
    newest = question.newest(run, tag)
    messages = messages_of(question.rows(run, tag, newest[-1])) if newest else None
    if messages is None:
        raise _Refusal(404, f"{_short(run)}: no messages of channel {channel} there")
    return _Answer(cloud(messages).pack(), _BINARY)


def _written(every: Any, last: int) -> int:
    """Return how many rows a run has written: at its first step, at every `every`th, at the last."""
    if not isinstance(every, int) or every < 1:
        return 0
    return last // every + (every > 1) + (last % every > 0)


def _respond(request: Request, content: Any, kind: str, status: int = 200) -> Response:
    allow = [("Allow", "GET, HEAD")] if status == 405 else []
    return cast(Response, http_util.Respond(request, content, kind, code=status, headers=allow))


def _answerable(tag: str, newest: Row) -> int:
    """Return the rows like the newest one that one answer may hold.

    Raises:
        RunError: Not even one.
    """
    size = newest[1].size
    found = rows_within(size)
    if not found:
        raise RunError(f"{tag}: a row of {size:,} values is too long to be served")
    return found


def _short(text: str) -> str:
    quoted = repr(text[:_NAME])
    return quoted if len(quoted) <= _NAME + 2 and len(text) <= _NAME else quoted[:_NAME] + "…'"
