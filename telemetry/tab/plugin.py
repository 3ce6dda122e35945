"""TensorBoard plugin of the Channels tab: serves its files, and the values of one metric at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from tensorboard import plugin_util  # type: ignore[import-untyped]
from tensorboard.backend import http_util  # type: ignore[import-untyped]
from tensorboard.data.provider import RunTagFilter  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Request, Response

from antiphon.base.errors import RunError
from antiphon.telemetry.tab.reading import Row, document_from, graph_from, messages_of, series_of
from antiphon.telemetry.tab.series import catalogue, cloud
from antiphon.telemetry.tab.tags import (
    GRAPH,
    PARTS,
    PLUGIN,
    TIMELINE,
    Family,
    messages_tag,
    metric_tag,
    parsed,
)

_log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".LICENSE": "text/plain"}
_ENTRY = b'export { render } from "./static/index.js";\n'
"""Entry module of the front end; the others are imported relative to it."""
_BINARY = "application/octet-stream"
_JSON = "application/json"
_EVERYTHING = 2**31 - 1


class _Question:
    """A request, with access to TensorBoard's data: its parameters select runs and tags by name, nothing else."""

    def __init__(self, request: Request, data: Any, most: int) -> None:
        self.args = request.args
        self._data = data
        self._most = most
        self._whose = {
            "ctx": plugin_util.context(request.environ),
            "experiment_id": plugin_util.experiment_id(request.environ),
            "plugin_name": PLUGIN,
        }

    @property
    def run(self) -> str:
        return self.args["run"]

    def tags(self, *, run: str | None = None, tag: str | None = None) -> dict[str, dict[str, Any]]:
        """Return by run the tags that have rows, with TensorBoard's metadata of each, such as `max_step`."""
        chosen = RunTagFilter(runs=None if run is None else [run], tags=None if tag is None else [tag])
        tags_by_run = self._data.list_tensors(**self._whose, run_tag_filter=chosen)
        # TensorBoard keeps tags of which a resumed run has dropped all rows.
        return {
            name: {tag: about for tag, about in tags.items() if about.max_step is not None}
            for name, tags in tags_by_run.items()
        }

    def rows(self, tag: str, most: int | None = None) -> list[Row]:
        """Return the rows of a tag in the order of writing, an even sample with the newest where there are more than `most`."""
        chosen = RunTagFilter(runs=[self.run], tags=[tag])
        tensors = self._data.read_tensors(
            **self._whose, downsample=self._most if most is None else most, run_tag_filter=chosen
        )
        return [(row.step, row.numpy) for row in tensors.get(self.run, {}).get(tag, ())]

    def document(self, tag: str) -> list[Row]:
        """Return the document that was written last, as the one row of its tag."""
        rows = self.rows(tag, 1)
        if not rows:
            raise NotFound(f"no run {self.run!r}, or it has no {tag}")
        return rows

    def runs(self) -> list[str]:
        """Return the names of the runs with a graph, that whose graph was written last first."""
        begun = {run: tags[GRAPH].max_wall_time for run, tags in self.tags(tag=GRAPH).items() if tags}
        return sorted(begun, key=lambda run: (-begun[run], run))


class ChannelsPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """The Channels tab.

    Runs, tags and values come from TensorBoard's data provider: the plugin serves what TensorBoard has loaded and reads no
    file except its own scripts and styles, which are listed once, here.

    Args:
        samples: Log entries of each metric that TensorBoard keeps if its hints do not name the plugin.
    """

    plugin_name = PLUGIN

    def __init__(self, context: Any, samples: int) -> None:
        self._data = context.data_provider
        self._kept = int((context.sampling_hints or {}).get(PLUGIN, samples)) or _EVERYTHING
        self._files = {
            path.relative_to(_STATIC).as_posix(): path
            for path in sorted(_STATIC.rglob("*"))
            if path.is_file() and path.suffix in _KINDS
        }

    def is_active(self) -> bool:
        """Return False: TensorBoard itself finds the data with the plugin's name, and then shows the tab."""
        return False

    def frontend_metadata(self) -> Any:
        """Return the path of the tab's script, and the tab's name."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Channels")

    def get_plugin_apps(self) -> dict[str, Any]:
        """Return the handler of each path; every file has its own path, and there are no others."""
        apps = {f"/static/{name}": self._app(partial(_file, path=path)) for name, path in self._files.items()}
        return apps | {
            "/index.js": self._app(lambda _: (_ENTRY, _KINDS[".js"])),
            "/runs": self._app(lambda question: (question.runs(), _JSON)),
            "/graph": self._app(lambda question: (graph_from(question.run, question.document(GRAPH)), _JSON)),
            "/timeline": self._app(partial(_document, tag=TIMELINE)),
            "/parts": self._app(partial(_document, tag=PARTS)),
            "/catalog": self._app(self._catalog),
            "/metric": self._app(_metric),
            "/cloud": self._app(_cloud),
        }

    def _app(self, answer: Callable[[_Question], tuple[Any, str]]) -> Any:
        """Return the WSGI application of one path: a response, or an object with the error in one line."""

        @Request.application
        def app(request: Request) -> Response:
            try:
                content, kind = answer(_Question(request, self._data, self._kept))
                return _respond(request, content, kind)
            except HTTPException as refusal:
                status, message = refusal.code or 500, str(refusal.description)
            except RunError as error:
                status, message = 500, str(error)
            except Exception as error:  # noqa: BLE001  (damaged data may raise anything there)
                _log.exception("%s", request.path)
                status = 500
                message = f"the data cannot be read ({type(error).__name__}); see TensorBoard's log"
            return _respond(request, {"error": message}, _JSON, status)

        return app

    def _catalog(self, question: _Question) -> tuple[Any, str]:
        every = graph_from(question.run, question.document(GRAPH))["every"]
        metadata = question.tags(run=question.run)[question.run]
        tags = {tag: parsed(tag) for tag in sorted(metadata)}
        metrics = {key: metadata[tag].max_step for tag, key in tags.items() if isinstance(key, tuple)}
        contents = catalogue(
            metrics,
            [key for key in tags.values() if isinstance(key, int)],
            timeline=TIMELINE in metadata,
            parts=PARTS in metadata,
            sampled=max(metrics.values(), default=0) // every > self._kept,
        )
        return contents, _JSON


def _file(_: _Question, path: Path) -> tuple[Any, str]:
    return path.read_bytes(), _KINDS[path.suffix]


def _document(question: _Question, tag: str) -> tuple[Any, str]:
    return document_from(question.document(tag)), _JSON


def _metric(question: _Question) -> tuple[Any, str]:
    kind, metric = question.args["kind"], question.args["metric"]
    series = series_of(question.rows(metric_tag(cast(Family, kind), metric)))
    if series is None:
        raise NotFound(f"{question.run!r}: no {kind} metric {metric!r}")
    return series.pack(), _BINARY


def _cloud(question: _Question) -> tuple[Any, str]:
    channel = question.args.get("channel", -1, type=int)
    messages = messages_of(question.rows(messages_tag(channel)))
    if messages is None:
        raise NotFound(f"{question.run!r}: no messages of channel {channel}")
    return cloud(messages).pack(), _BINARY


def _respond(request: Request, content: Any, kind: str, status: int = 200) -> Response:
    return cast(Response, http_util.Respond(request, content, kind, code=status))
