"""Scenario files with their parameters filled in and their graph generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from antiphon.base.nearest_names import nearest, suggest
from antiphon.base.problems import DocumentError, Problems, show_refused
from antiphon.base.problems import Path as DocumentPath
from antiphon.base.spec import Spec, accepted_keys, channel_name, in_one_spelling
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.graphs.generators import GraphSpec, generate, refuse_what_is_too_large
from antiphon.scenarios.parameters import section, substitute, uses_parameters
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
        if isinstance(body.get("env"), dict) and "file" in body["env"]:
            from antiphon.envs.registry import with_paths

            body["env"] = with_paths(body["env"], Path(document.source).parent)
        sections: dict[DocumentPath, Any] = {}
        problems = Problems()
        for name in SECTIONS:
            if name in body:
                with problems.gathered():
                    sections |= _sections(name, body.pop(name))
        problems.raise_any()
        if (graph := body.pop("graph", None)) is not None:
            return cls._generated(document, values, body, graph, sections)
        refuse_what_is_too_large(body)
        for path in sections:
            raise DocumentError(path, "is for a generated graph, and there is no `graph`; add one")
        return cls(body, document.lines)

    @classmethod
    def _generated(
        cls,
        document: Document,
        values: Mapping[str, Any],
        body: dict[str, Any],
        graph: Any,
        sections: Mapping[DocumentPath, Any],
    ) -> Self:
        try:
            spec = GraphSpec.model_validate(graph)
        except DocumentError as error:
            raise error.under(("graph",)) from None
        split = ("channel", "split")
        if split in sections and spec.split is None:
            raise DocumentError(split, "has no effect without graph.split; give it")
        fixed = not uses_parameters(document.data["graph"])  # a parameter may be adjacent in another variant
        if fixed and split not in sections and isinstance(spec.split, int):
            raise DocumentError(("graph", "split"), "has no effect without channel.split; give it")
        of_words = {name for name, value in values.items() if not isinstance(value, int | float)}
        if not uses_parameters(document.data, of_words):  # one may name the signal in another variant
            _refuse_unnamed_signals(spec, document.data, (body, *sections.values()))
        refuse_what_is_too_large(body, spec)
        try:
            generated = generate(spec, sections)
        except DocumentError as error:
            raise error.under(("graph",)) from None
        if fixed and split in sections and not any(split in used for used in generated.templates.values()):
            who = " and ".join(f"may use {signal}" for signal in spec.of_adjacent)
            raise DocumentError(split, f"has no effect, as every sender {who or 'may use all'}; leave it out")
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

    def as_written(self, problems: Iterable[DocumentError]) -> Problems:
        """Return one problem for each mistake, of generated agents and channels at the section that they were made from."""
        by_path: dict[DocumentPath, DocumentError] = {}  # of a place, the first
        for problem in problems:
            path, subject, names = problem.path, problem.subject, self._names
            if path[:1] == ("channels",) and subject in names:
                path = ("channels", names.index(subject), *path[2:])
            elif path[:1] == ("channels",) and path[1:] and isinstance(path[1], int):
                subject = names[path[1]]
            by_path.setdefault(path, problem.at(self._section(path), subject))
        uses = Counter(section for sections in self.sections.values() for section in sections)
        return Problems(by_path.values()).said_once(uses)

    @cached_property
    def _names(self) -> list[str]:
        """The names of the channels; none where the section is no list."""
        channels = self.data.get("channels")
        ends = [
            channel if isinstance(channel, dict) else {}
            for channel in (channels if isinstance(channels, list) else ())
        ]
        return [
            channel_name(str(channel.get("from")), str(channel.get("to")), channel.get("key", 0))
            for channel in ends
        ]

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


def _refuse_unnamed_signals(spec: GraphSpec, written: Mapping[str, Any], filled: Any) -> None:
    """Refuse a signal of `graph.split` that stands nowhere else, as all predictors would go on to read the one that is meant."""
    graph = written["graph"]
    others = (
        {key: value for key, value in graph.items() if key != "split"}
        if isinstance(graph, Mapping)
        else graph
    )
    words = {*_words([{**written, "graph": others}, filled])}
    for signal in spec.split if isinstance(spec.split, Mapping) else ():
        if signal not in words:
            near = nearest(signal, words)
            fix = (
                "name a signal of its channels' contexts or targets"
                if near is None
                else f"did you mean '{near}'?"
            )
            raise DocumentError(
                ("graph", "split", signal), f"nothing in the scenario uses this signal; {fix}"
            )


def _words(value: Any) -> Iterator[str]:
    """Yield every key and word of a part of a document."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
    elif isinstance(value, str):
        yield value


def _sections(name: str, value: Any) -> Iterator[tuple[DocumentPath, Any]]:
    """Yield a section of generated agents or channels without those within it, and these, with their paths."""
    spec = _OF_SECTIONS[name]
    accepted = {*accepted_keys(spec), *SECTIONS[name]}
    keys = _standard_section((name,), value, accepted)
    suggested = accepted - {"from", "to"}  # which the graph gives
    unknown = [key for key in keys if key not in accepted]
    Problems(
        DocumentError((name, key), f"unknown key {key!r}{suggest(key, suggested)}") for key in unknown
    ).raise_any()
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
    keys = section(path, value)
    try:
        return in_one_spelling(keys, accepted)
    except DocumentError as error:
        raise error.under(path) from None
