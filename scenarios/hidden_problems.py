"""Problems of a scenario file that others hide: what is refused is left out, and the rest is read part by part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import DocumentError, Problems
from antiphon.base.problems import Path as DocumentPath
from antiphon.base.spec import Spec
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.checks import unknown_ends
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.scenarios.scenario import Scenario, Template
from antiphon.scenarios.training import TelemetrySpec, TrainingSpec
from antiphon.scenarios.unknown_keys import without


def hidden_problems(
    template: Template, variant: str | None, values: Mapping[str, Any], problems: Iterable[DocumentError]
) -> Problems:
    """Return the problems of single parts that show where what has problems is left out.

    Raises:
        ScenarioError: What is left cannot be read.
    """
    left_out = [problem.path for problem in problems]
    hidden = Problems()
    for path, spec, part in _parts(_rest(template, left_out).explicit(variant, values).data, left_out):
        with hidden.gathered(path):
            spec.model_validate(part)
    return hidden


def readable_parts(
    template: Template, variant: str | None, values: Mapping[str, Any], problems: Iterable[DocumentError]
) -> tuple[Scenario, Problems]:
    """Return the environment, and each agent and channel without what has problems, or as it is where it needs that.

    It is not checked as a whole: what is wrong with its single parts shows. The problems of channels with an end that is no
    agent are returned too.

    Raises:
        ScenarioError: The environment cannot be read.
    """
    left_out = [problem.path for problem in problems]
    rest = _rest(template, left_out).explicit(variant, values).data
    parts = [*_parts(rest, left_out)]
    with suppress(ScenarioError):
        parts += _parts(template.explicit(variant, values).data)
    agents = dict[str, AgentSpec]()
    channels = dict[str, ChannelSpec]()
    for path, spec, part in parts:
        with suppress(ScenarioError):
            read = spec.model_validate(part)
            if isinstance(read, AgentSpec):
                agents.setdefault(str(path[-1]), read)
            elif isinstance(read, ChannelSpec):
                channels.setdefault(read.name, read)
    env = EnvSpec.model_validate(rest.get("env"))
    names = {str(path[-1]) for path, spec, _ in parts if spec is AgentSpec}
    ends = Problems(
        DocumentError(("channels", name, key), message)
        for name, channel in (channels.items() if names else ())
        for key, message in unknown_ends(channel, names)
    )
    return Scenario.model_construct(env=env, agents=agents, channels=tuple(channels.values())), ends


def _rest(template: Template, left_out: Collection[DocumentPath]) -> Template:
    document = template.document
    return replace(template, document=replace(document, data=without(document.data, left_out)))


def _parts(
    data: Mapping[str, Any], left_out: Collection[DocumentPath] = ()
) -> Iterator[tuple[DocumentPath, type[Spec], Any]]:
    """Yield the place, class and data of each part of a document that is read by itself; its place is that before some were left out."""
    yield ("training",), TrainingSpec, data.get("training", {})
    yield ("telemetry",), TelemetrySpec, data.get("telemetry", {})
    agents, channels = data.get("agents"), data.get("channels")
    for name, agent in (agents if isinstance(agents, dict) else {}).items():
        yield ("agents", name), AgentSpec, agent
    places = (path for number in count() if (path := ("channels", number)) not in left_out)
    for path, channel in zip(places, channels if isinstance(channels, list) else (), strict=False):
        yield path, ChannelSpec, channel
