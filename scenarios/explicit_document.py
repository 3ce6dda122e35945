"""Scenario files with their parameters filled in and their graph generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from antiphon.base.problems import DocumentError, show_refused, within
from antiphon.base.problems import Path as DocumentPath
from antiphon.base.spec import channel_name
from antiphon.scenarios.graphs import GraphSpec, generate
from antiphon.scenarios.parameters import section, substitute
from antiphon.scenarios.yaml_text import Document

SECTIONS = {"agent": ("first", "readout", "deal"), "channel": ("split",)}
"""Sections of generated agents and channels, with the sections within them that are of some."""


def explicit(document: Document, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a document with the values of its parameters, and with the agents and channels of its graph.

    Raises:
        DocumentError: A section of generated agents or channels, or the graph, is not accepted.
    """
    body: dict[str, Any] = substitute(document.data, values)
    sections = dict(_sections(body))
    graph = body.pop("graph", None)
    if graph is None:
        for path in sections:
            raise DocumentError(path, "is for a generated graph, and there is no `graph`; add one")
        return body
    with within(("graph",)):
        generated = generate(GraphSpec.model_validate(graph), sections)
    agents, channels = section(("agents",), body.get("agents", {})), body.get("channels", [])
    for name in agents:
        if name in generated.agents:
            raise DocumentError(
                ("agents", name), "the graph generates an agent with this name too; rename one"
            )
    body["agents"] = {**agents, **generated.agents}
    body["channels"] = [*channels, *generated.channels] if isinstance(channels, list) else channels
    if ("agent", "readout") in sections:
        body.setdefault("readout", list(generated.readouts))
    return body


def _sections(body: dict[str, Any]) -> Iterator[tuple[DocumentPath, Any]]:
    """Take the sections of generated agents and channels out of a document, those within them beside them."""
    for name, inner in SECTIONS.items():
        if name not in body:
            continue
        keys = section((name,), body.pop(name))
        yield (name,), {key: item for key, item in keys.items() if key not in inner}
        for key in inner:
            path, items = (name, key), keys.get(key)
            if key == "deal" and items is not None:
                if not isinstance(items, list) or not items:
                    raise DocumentError(path, f"must be a list of agents' keys, not {show_refused(items)}")
                yield path, [section((*path, index), item) for index, item in enumerate(items)]
            elif items is not None:
                yield path, section(path, items)


@contextmanager
def located(document: Document) -> Iterator[None]:
    """Add the lines of a file to the problems of its scenario that the body raises: of generated agents those of their section."""
    try:
        yield
    except DocumentError as error:
        kind, *below = error.path or ("",)
        at = error.path
        if kind == "channels" and below and (names := _names(document)).count(str(below[0])):
            at = (kind, names.index(str(below[0])), *below[1:])
        elif kind in ("agents", "channels") and error.path[:2] not in document.lines:
            at = (str(kind).removesuffix("s"), *below[1:])
        raise error.located(document.source, document.lines, at) from None


def _names(document: Document) -> list[str]:
    """The names of the channels that are written out; none where one has no ends."""
    try:
        return [channel_name(one["from"], one["to"], one.get("key", 0)) for one in document.data["channels"]]
    except (AttributeError, KeyError, TypeError):
        return []
