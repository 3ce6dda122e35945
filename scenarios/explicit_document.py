"""Scenario files with their parameters filled in and their graph generated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, joined, refuse, show_refused, within
from antiphon.base.problems import Path as DocumentPath
from antiphon.base.spec import Spec, accepted_keys, channel_name, in_one_spelling
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.graphs import GraphSpec, generate
from antiphon.scenarios.parameters import section, substitute
from antiphon.scenarios.yaml_text import Document

SECTIONS = {"agent": ("first", "readout", "deal"), "channel": ("split",)}
"""Sections of generated agents and channels, with the sections within them that are of some."""
_OF_SECTIONS: Mapping[str, type[Spec]] = {"agent": AgentSpec, "channel": ChannelSpec}


@dataclass(frozen=True)
class ExplicitDocument:
    """A document with its parameters filled in and its graph generated.

    Attributes:
        sections: The paths of the sections of which an agent (by name) or a channel (by number among the generated
            ones) was made, the one that counts most first.
        written: Number of channels that are written out; the generated ones follow.
    """

    data: dict[str, Any]
    lines: Mapping[DocumentPath, int]
    sections: Mapping[str | int, tuple[DocumentPath, ...]] = field(default_factory=dict)
    written: int = 0

    @classmethod
    def of(cls, document: Document, values: Mapping[str, Any]) -> Self:
        """Return a document with the values of its parameters.

        Raises:
            DocumentError: A section of generated agents or channels, or the graph, is not accepted.
        """
        body = substitute(document.data, values)
        sections: dict[DocumentPath, Any] = {}
        for name in SECTIONS:
            if name in body:
                sections |= _sections(name, body.pop(name))
        if (graph := body.pop("graph", None)) is not None:
            return cls._generated(document, body, graph, sections)
        for path in sections:
            raise DocumentError(path, "is for a generated graph, and there is no `graph`; add one")
        return cls(body, document.lines)

    @classmethod
    def _generated(
        cls,
        document: Document,
        body: dict[str, Any],
        graph: Any,
        sections: Mapping[DocumentPath, Any],
    ) -> Self:
        with within(("graph",)):
            spec = GraphSpec.model_validate(graph)
            generated = generate(spec, sections)
        agents, channels = body.setdefault("agents", {}), body.get("channels", [])
        if not isinstance(agents, dict) or not isinstance(channels, list):
            return cls(body, document.lines)
        for name in agents:
            if name in generated.agents:
                raise DocumentError(
                    ("agents", name), "the graph generates an agent with this name too; rename one"
                )
        body["agents"] = {**agents, **generated.agents}
        body["channels"] = [*channels, *generated.channels]
        if ("agent", "readout") in sections:
            body.setdefault("readout", list(generated.readouts))
        return cls(body, document.lines, generated.templates, len(channels))

    def as_written(self, error: DocumentError) -> DocumentError:
        """Return problems, those of generated agents and channels once, at the section that they were made from."""
        by_path: dict[DocumentPath, DocumentError] = {}
        for problem in error.separate():
            path = problem.path
            if path[:1] == ("channels",) and path[1:] and path[1] in self._names:
                path = ("channels", self._names.index(str(path[1])), *path[2:])
            path = self._section(path)
            by_path.setdefault(path, problem.at(path))
        return joined(by_path.values())

    @cached_property
    def _names(self) -> list[str]:
        """The names of the channels; none where one has no ends."""
        channels = self.data.get("channels", ())
        try:
            return [channel_name(one["from"], one["to"], one.get("key", 0)) for one in channels]
        except (AttributeError, KeyError, TypeError):
            return []

    def _section(self, path: DocumentPath) -> DocumentPath:
        """Return the path in the section that an agent or channel was made from; others are as they are."""
        kind, item, *rest = path if len(path) > 1 else ("", "")
        key = item - self.written if kind == "channels" and isinstance(item, int) else item
        sections = self.sections.get(key, ()) if kind in ("agents", "channels") else ()
        if not sections:
            return path
        at = next(
            (section for section in sections if rest and (*section, rest[0]) in self.lines), sections[-1]
        )
        return (*at, *rest)


def _sections(name: str, value: Any) -> Iterator[tuple[DocumentPath, Any]]:
    """Yield a section of generated agents or channels without those within it, and these, with their paths."""
    spec = _OF_SECTIONS[name]
    accepted = {*accepted_keys(spec), *SECTIONS[name]}
    keys = _standard_section((name,), value, accepted)
    suggested = accepted - {"from", "to"}  # which the graph gives
    unknown = [key for key in keys if key not in accepted]
    refuse(DocumentError((name, key), f"unknown key {key!r}{suggest(key, suggested)}") for key in unknown)
    yield (name,), {key: item for key, item in keys.items() if key not in SECTIONS[name]}
    for subsection in SECTIONS[name]:
        if subsection not in keys:
            continue
        path, items = (name, subsection), keys[subsection]
        if subsection != "deal":
            items = _standard_section(path, items, accepted)
        elif not isinstance(items, list) or not items:
            raise DocumentError(path, f"must be a list of agents' keys, not {show_refused(items)}")
        else:
            items = [_standard_section((*path, index), item, accepted) for index, item in enumerate(items)]
        yield path, items


def _standard_section(path: DocumentPath, value: Any, accepted: Collection[str]) -> dict[str, Any]:
    """Return a section with the standard spelling of its keys: sections of some agents are merged with that of all."""
    with within(path):
        return in_one_spelling(section((), value), accepted)
