"""Hostile requests and damaged event files: the Channels tab serves its own, in bounds, or says in one line why not."""

from __future__ import annotations

import gzip
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from werkzeug.test import Client, TestResponse

from antiphon.errors import RunError
from antiphon.telemetry import read_run
from tests.fuzz.conftest import Case, Cases
from tests.fuzz.mutation import mutated
from tests.kit.tab import page
from tests.telemetry.tab.serving import client
from tests.telemetry.tab.writing import rows, write

SECRET = b"a secret beside the runs"
TIMELINE = {"start": 0, "steps": 3, "agents": [{}, {}], "channels": [{}, {}]}
ROUTES = ("runs", "graph", "timeline", "parts", "catalog", "metric", "cloud", "index.js", "static/app.js")
PARAMETERS = ("run", "kind", "metric", "channel", "after", "newest", "experiment", "tag", "")
WORDS = r"""
a b/s0 agent channel part loss age 0 1 -1 . .. ../a / * ../../../../etc/passwd file:///etc/passwd \..\secret.txt %2e%2e%2f a/../a
<script>alert(1)</script> javascript:alert(1) '"` {{7*7}} ${7*7} 猫 -0 1e9 nan inf 0x10 １
"""
ODD = ("", "a\0b", "a\nb", "\udcff", "\u202e", " 1", "x" * 3000, "\U000e0001" * 90)
TEXTS = (*WORDS.split(), *ODD, *("9" * digits for digits in (15, 16, 4000)))
METHODS = ("GET",) * 12 + ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "G\u00cbT")
HEADERS = {
    "Range": ("bytes=0-5", "bytes=-1", "bytes=5-1", "bytes=0-0,-1", "lines=1"),
    "Accept-Encoding": ("gzip", "gzip;q=0", "br", "*", "gzip, " * 500),
    "Host": ("evil.example", "", "[::1", "a:b:c", "localhost:99999"),
    "Content-Length": ("-1", "x", "99999999999"),
    "X-Forwarded-Prefix": ("/../..", "//evil.example"),
    "X-Forwarded-Host": ("evil.example",),
    "If-None-Match": ("*",),
    "Cookie": ("a=b; " * 500,),
    "Content-Type": ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "\x00"),
}
KINDS = ("application/json", "application/octet-stream", "text/javascript", "text/css", "text/plain")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Keep thousands of lines of TensorBoard's log out of the memory; what only warns is no failure of a request."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
    logging.disable(logging.NOTSET)


def checked(response: TestResponse) -> None:
    """Check an answer: of a kind that no browser runs, bounded, without what is not to be seen, errors in one line."""
    assert response.status_code in (200, 400, 404, 405, 500), response.status
    kind = (response.content_type or "").partition(";")[0]
    assert kind in KINDS, kind
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers
    assert len(response.data) <= 2**20
    assert SECRET not in response.data
    assert b"Traceback" not in response.data
    if response.status_code != 200 and kind == "application/json" and response.data:
        packed = response.headers.get("Content-Encoding") == "gzip"
        found = json.loads(gzip.decompress(response.data) if packed else response.data)
        assert set(found) == {"error"}
        check_line(found["error"])


def check_line(line: str) -> None:
    """Check that an error is one short line."""
    assert line.isprintable(), repr(line)
    assert len(line) <= 300


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A client of two runs with everything."""
    logdir = tmp_path_factory.mktemp("runs")
    messages = {"antiphon/messages/0": np.arange(12.0).reshape(4, 3)}
    write(logdir / "a", {**rows([1, 2]), 3: messages}, timeline=TIMELINE)
    write(logdir / "b" / "s0", rows(range(1, 30)))
    (logdir / "secret.txt").write_bytes(SECRET)
    (logdir / "a" / "secret.txt").write_bytes(SECRET)
    return client(logdir)


def test_hostile_requests_of_every_route(cases: Cases, ready: Client) -> None:
    def text(case: Case) -> str:
        return "".join(case.choice(TEXTS) for _ in range(case.choice((1, 1, 1, 2, 5))))

    def try_one(case: Case) -> None:
        path = case.choice(ROUTES)
        if case.random() < 0.3:
            path = case.choice(
                (f"{path}/{text(case)}", f"{text(case)}/{path}", f"static/{text(case)}", f"{path}%00")
            )
        query = [(case.choice(PARAMETERS), text(case)) for _ in range(case.randrange(6))]
        if case.random() < 0.5:
            query += [("run", "a"), ("kind", "agent"), ("metric", "loss"), ("channel", "0")]
        method, name = case.choice(METHODS), case.choice(sorted(HEADERS))
        headers = {name: case.choice(HEADERS[name])}
        case.log += [method, repr(path), repr(query), repr(headers)]
        found = {key: [value for other, value in query if other == key] for key, _ in query}
        address = "/data/plugin/antiphon/" + quote(path, safe="/%*:<>", errors="surrogateescape")
        clean = {
            key: [v.encode("utf-8", "replace").decode() for v in values] for key, values in found.items()
        }
        checked(ready.open(address, method=method, query_string=clean, headers=headers))

    cases(try_one, 60)


def damage(case: Case, path: Path, content: bytes) -> None:
    """Write an event file with damage to its bytes, or inside of a record whose checksums are right."""
    path.write_bytes(content)
    if case.random() < 0.5:
        path.write_bytes(mutated(case, content))
        return
    found = list(RawEventFileLoader(str(path)).Load())
    place = case.randrange(1, len(found))
    found[place] = mutated(case, found[place])
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for record in found:
            writer.write(record)
        writer.flush()


@pytest.mark.long
def test_event_files_that_are_read_for_a_report(cases: Cases, tmp_path: Path) -> None:
    messages = {"antiphon/messages/0": np.arange(12.0).reshape(4, 3)}
    path = write(tmp_path / "a", {**rows([1, 2]), 3: messages}, timeline=TIMELINE)
    content = path.read_bytes()

    def try_one(case: Case) -> None:
        damage(case, path, content)
        try:
            run = read_run(tmp_path / "a")
        except RunError as error:
            check_line(str(error))
        else:
            text = page([run], title="a", most=5 * 2**20)
            assert "onerror=" not in text.partition('type="application/json"')[0]

    cases(try_one, 40)
