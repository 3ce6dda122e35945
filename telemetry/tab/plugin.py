"""TensorBoard plugin of the Channels tab: serves its files, and the values of one metric at a time."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from tensorboard import plugin_util  # type: ignore[import-untyped]
from tensorboard.backend import http_util  # type: ignore[import-untyped]
from tensorboard.data.provider import RunTagFilter  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from antiphon.base.errors import RunError, in_one_line
from antiphon.telemetry.tab.reading import (
    Row,
    document_from,
    graph_from,
    messages_of,
    series_of,
    undefined_from,
)
from antiphon.telemetry.tab.seeds import ALL_SEEDS, Likeness, Member, Seeds, seed_groups
from antiphon.telemetry.tab.series import Series, catalogue, cloud, results_of, with_measured
from antiphon.telemetry.tab.tags import (
    GRAPH,
    HEADLINE,
    MEASURING,
    PARTS,
    PLUGIN,
    SEEDS,
    TIMELINE,
    UNDEFINED,
    Family,
    messages_tag,
    metric_tag,
    parsed,
)
from antiphon.telemetry.tab.verdict_series import DERIVED, derived_series, headline_metrics, headline_series

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


_Answer = tuple[Any, str]
"""Content and type of a response."""


class _Question:
    """A request, with access to TensorBoard's data: its parameters select runs and tags by name, nothing else.

    `most`: rows of a tag that are read at most; `likenesses`: filled here, so that a graph is compared once.
    """

    def __init__(
        self,
        request: Request,
        data: Any,
        most: int,
        likenesses: dict[tuple[str, float], Likeness],
        logdir: str,
    ) -> None:
        self.args = request.args
        self._data = data
        self._most = most
        self._known = likenesses
        self._logdir = logdir
        self._whose = {
            "ctx": plugin_util.context(request.environ),
            "experiment_id": plugin_util.experiment_id(request.environ),
            "plugin_name": PLUGIN,
        }

    def text(self, name: str) -> str:
        value = self.args.get(name)
        if not value:
            raise BadRequest(f"{name}: missing; add it to the request")
        return value

    def integer(self, name: str) -> int:
        """Return a required parameter that is an integer of at most 15 digits."""
        value = self.text(name)
        if not _INTEGER.fullmatch(value):
            raise BadRequest(f"{name}: {_short(value)} is not an integer of at most 15 digits")
        return int(value)

    def series(self, *, run: str | None = None, tag: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the tags of runs that have rows, with TensorBoard's metadata of each, such as `max_step`."""
        chosen = RunTagFilter(runs=None if run is None else [run], tags=None if tag is None else [tag])
        tags_by_run = self._data.list_tensors(**self._whose, run_tag_filter=chosen)
        # TensorBoard keeps tags of which a resumed run has dropped all rows.
        return {
            run_name: {name: about for name, about in tags.items() if about.max_step is not None}
            for run_name, tags in tags_by_run.items()
        }

    def rows(self, run: str, tag: str, most: int | None = None) -> list[Row]:
        """Return the rows of a tag in the order of writing, an even sample with the newest where there are more than `most`."""
        chosen = RunTagFilter(runs=[run], tags=[tag])
        most = self._most if most is None else most
        tensors = self._data.read_tensors(**self._whose, downsample=most, run_tag_filter=chosen)
        return [(row.step, row.numpy) for row in tensors.get(run, {}).get(tag, ())]

    def document(self, run: str, tag: str) -> list[Row]:
        """Return the document that was written last, as the one row of its tag."""
        rows = self.rows(run, tag, 1)
        if not rows:
            raise NotFound(f"no run {_short(run)}, or it has no {tag}")
        return rows

    def begun(self) -> dict[str, float]:
        """Return when the graph of each run was written last."""
        return {run: tags[GRAPH].max_wall_time for run, tags in self.series(tag=GRAPH).items() if tags}

    def of_seeds(self) -> dict[str, list[str]]:
        """Return the runs that differ in their seed alone, under a name for all."""
        alike = {}
        for run, when in self.begun().items():
            if (run, when) not in self._known:
                try:
                    self._known[run, when] = Likeness.of(run, self.graph_of(run))
                except Exception:  # noqa: BLE001  (of damaged data it is told where the run is opened)
                    self._known[run, when] = Likeness(None, "", None)
            alike[run] = self._known[run, when]
        return seed_groups(alike, lambda run: str(self.graph_of(run).get("scenario", "")))

    def graph_of(self, run: str) -> dict[str, Any]:
        return graph_from(run, self.document(run, GRAPH))

    def runs(self) -> list[str]:
        """Return the run that is asked for; of a name for several seeds theirs."""
        name = self.text("run")
        return self.of_seeds().get(name, [name]) if name.endswith(ALL_SEEDS) else [name]

    def graph(self) -> Mapping[str, Any]:
        runs = self.runs()
        return self.graph_of(*runs) if len(runs) == 1 else self.seeds(runs).graph

    def member(self, run: str, *, with_metrics: bool = False) -> Member:
        """Return one run, `with_metrics` or with its graph alone; with them come the reasons why channels have no result."""
        graph = self.graph_of(run)
        tags = self.series(run=run)[run] if with_metrics else {}
        metrics = [key for key in map(parsed, sorted(tags)) if isinstance(key, tuple)]
        undefined = {
            tag.removeprefix(UNDEFINED): undefined_from(self.rows(run, tag))
            for tag in tags
            if tag.startswith(UNDEFINED)
        }
        return Member(run, self.path(run), graph, metrics, partial(self.read, run), undefined)

    def path(self, run: str) -> str:
        """Return a run's folder as the log directory was given; the run's name where there are several."""
        return os.path.normpath(os.path.join(self._logdir, run))

    def seeds(self, runs: Sequence[str], *, with_metrics: bool = False) -> Seeds:
        """Return runs that differ in their seed alone; `with_metrics`: see `member`."""
        return Seeds([self.member(run, with_metrics=with_metrics) for run in runs], self._most)

    def read(self, run: str, family: str, metric: str) -> Series | None:
        """Return the log entries of a metric of one run, or what follows from them; None: there are none."""

        def written(family: Any, metric: str) -> Series | None:
            return series_of(self.rows(run, metric_tag(family, metric)))

        if (family, metric) in DERIVED:
            return derived_series(partial(written, "channel"), self.graph_of(run), (family, metric))
        if family == HEADLINE:
            scores = written("agent", metric)
            return None if scores is None else headline_series(scores, self.graph_of(run))
        return written(family, metric)


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
        self._logdir = str(getattr(context, "logdir", None) or "")
        self._alike: dict[tuple[str, float], Likeness] = {}
        self._kept = int((context.sampling_hints or {}).get(PLUGIN, samples))
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
            "/runs": self._app(_runs),
            "/graph": self._app(lambda question: (question.graph(), _JSON)),
            "/timeline": self._app(partial(_document, tag=TIMELINE)),
            "/parts": self._app(partial(_document, tag=PARTS)),
            "/catalog": self._app(self._catalog),
            "/metric": self._app(_metric),
            "/cloud": self._app(_cloud),
        }

    def _app(self, answer: Callable[[_Question], _Answer]) -> Any:
        """Return the WSGI application of one path: a response, or an object with the error in one line."""

        @Request.application
        def app(request: Request) -> Response:
            try:
                if request.method not in ("GET", "HEAD"):
                    raise MethodNotAllowed(description=f"{_short(request.method)}: use GET")
                most = self._kept or _EVERYTHING
                content, kind = answer(_Question(request, self._data, most, self._alike, self._logdir))
                return _respond(request, content, kind)
            except HTTPException as refusal:
                status, message = refusal.code or 500, str(refusal.description)
            except RunError as error:
                status, message = 500, str(error)
            except Exception as error:  # noqa: BLE001  (damaged data may raise anything there)
                _log.warning("%s", in_one_line(f"{request.path}: {type(error).__name__}: {error}"))
                status = 500
                message = f"the data cannot be read ({type(error).__name__}); see TensorBoard's log"
            return _respond(request, {"error": in_one_line(message)}, _JSON, status)

        return app

    def _catalog(self, question: _Question) -> _Answer:
        runs = question.runs()
        alone = len(runs) == 1
        shown: Member | Seeds = (
            question.member(runs[0], with_metrics=True) if alone else question.seeds(runs, with_metrics=True)
        )
        metadata = question.series(run=runs[0])[runs[0]]
        tags = {tag: parsed(tag) for tag in sorted(metadata)}
        metrics = list(shown.metrics)
        last = max((metadata[tag].max_step for tag, key in tags.items() if isinstance(key, tuple)), default=0)
        every = shown.graph["every"]
        # at the first step, every so many, and the last
        rows = last // every + (every > 1) + (last % every > 0)
        if alone:
            metrics += [
                key
                for key, inputs in DERIVED.items()
                if any(("channel", metric) in metrics for metric in inputs)
            ]
            metrics += [(HEADLINE, metric) for metric in headline_metrics(metrics)]
        contents = catalogue(
            metrics,
            results_of(partial(shown.read, "channel")),
            shown.undefined,
            [key for key in tags.values() if isinstance(key, int)] if alone else (),
            with_measured(shown.graph, shown.read),
            question.path(runs[0]),
            timeline=TIMELINE in metadata,
            parts=PARTS in metadata and alone,
            sampled=rows > (self._kept or _EVERYTHING),
        )
        begun, measuring = question.begun(), None
        session = max(begun[run] for run in runs)
        # Else it is of a killed session.
        if alone and MEASURING in metadata and metadata[MEASURING].max_wall_time >= session:
            measuring = document_from(question.document(runs[0], MEASURING))
            if measuring["done"] == measuring["of"] or last > measuring["step"]:
                measuring = None
        return {**contents, "measuring": measuring, "session": session}, _JSON


def _file(_: _Question, path: Path) -> _Answer:
    return path.read_bytes(), _KINDS[path.suffix]


def _runs(question: _Question) -> _Answer:
    """Return the names of the runs, the newest first: the tab opens it; those of several seeds stand together, below the name for all."""
    begun = question.begun()
    newest_first = sorted(begun, key=lambda run: (-begun[run], run))
    groups = [(name, frozenset(members)) for name, members in question.of_seeds().items()]
    names: dict[str, None] = {}
    for run in newest_first:
        for name, members in groups:
            if run in members:
                names |= dict.fromkeys([name, *(one for one in newest_first if one in members)])
        names[run] = None
    return [*names], _JSON


def _document(question: _Question, tag: str) -> _Answer:
    return document_from(question.document(question.runs()[0], tag)), _JSON


def _metric(question: _Question) -> _Answer:
    run, kind, metric = (question.text(name) for name in ("run", "kind", "metric"))
    kinds = *get_args(Family), *dict.fromkeys(family for family, _ in DERIVED), HEADLINE, SEEDS
    if kind not in kinds:
        raise BadRequest(f"kind: {_short(kind)} is not one of {', '.join(kinds)}")

    runs = question.runs()
    read = question.seeds(runs).read if len(runs) > 1 else partial(question.read, run)
    series = read(kind, metric)
    if series is None:
        raise NotFound(f"{_short(run)}: no {kind} metric {_short(metric)}")
    if "after" in question.args:
        later = series.steps > question.integer("after")
        series = Series(series.steps[later], series.values[later])
    return series.pack(), _BINARY


def _cloud(question: _Question) -> _Answer:
    run, channel = question.text("run"), question.integer("channel")
    messages = messages_of(question.rows(run, messages_tag(channel)))
    if messages is None:
        raise NotFound(f"{_short(run)}: no messages of channel {channel}")
    return cloud(messages).pack(), _BINARY


def _respond(request: Request, content: Any, kind: str, status: int = 200) -> Response:
    allow = [("Allow", "GET, HEAD")] if status == 405 else []
    return cast(Response, http_util.Respond(request, content, kind, code=status, headers=allow))


def _short(text: str) -> str:
    return repr(text[:_NAME])[: _NAME + 2]
