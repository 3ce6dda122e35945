"""Scenarios, explicit, validated and immutable; and the templates that resolve to them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from antiphon.base.errors import ScenarioError, suggest, with_count
from antiphon.base.extensions import name_of
from antiphon.base.kinds import fitting
from antiphon.base.memory import uncollected
from antiphon.base.problems import MISSING, DocumentError, placed, within
from antiphon.base.problems import Path as DocumentPath
from antiphon.base.spec import (
    AUTO,
    FrozenMap,
    Name,
    Names,
    OrObject,
    Sequence,
    Spec,
    fail,
    frozen_data,
    plain,
    read_name,
)
from antiphon.comms.couplings import DEFAULT, Detached, Locked
from antiphon.scenarios.agent_specs import AgentSpec, Unroll
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.graphs import document_of, explicit, graph_of, named_by_ends
from antiphon.scenarios.parameters import REFERENCE, ParameterSpec, read_parameters, read_variants
from antiphon.scenarios.training import TelemetrySpec, TrainingSpec
from antiphon.scenarios.yaml_text import Document, read, write

if TYPE_CHECKING:
    import networkx as nx

    from antiphon.scenarios.relations import Relations


class EnvSpec(Spec):
    """An environment by its id; all other keys are options of the environment. A word is an id without options.

    Attributes:
        id: An id of antiphon, such as `antiphon/Digits-v0`, or one that you registered. `gymnasium/ID` is an id of Gymnasium's
            registry, such as `gymnasium/CartPole-v1` (`gymnasium/MODULE:ID` if a module registers it); other keys:
            `vectorization_mode` (sync, async or vector_entry_point), `wrappers` (of `gymnasium.wrappers`, by name with their
            arguments) and arguments of the environment. `pettingzoo/MODULE` is a module of PettingZoo with a `parallel_env`, such as
            `pettingzoo/mpe2.simple_speaker_listener_v4`; other keys are arguments of the environment.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment: plain data, lists as tuples."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _plain_data(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"id": data}
        if not isinstance(data, Mapping):
            from antiphon.envs.registry import recipe_instead_of

            return fail(recipe_instead_of(data))
        name = data.get("id")
        if isinstance(name, str) and name.startswith("antiphon/"):  # another may be registered later
            from antiphon.envs.registry import unknown_id

            if (problem := unknown_id(name)) is not None:
                raise DocumentError(("id",), problem)
        return frozen_data(data)


def is_environment(value: object) -> bool:
    """Whether a value makes environments: a function, a class, or a source."""
    if isinstance(value, Spec | Mapping):
        return False
    makes = callable(getattr(value, "make", None)) and not hasattr(value, "entry_point")
    return makes or callable(value)


COMPARED = (Locked.name, DEFAULT, Detached.name, "local")
"""Variants that a scenario without any has: they show what decoupling costs (`with_coupling`)."""


def _each_kind_once(agents: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Read agents, sorted by name; those with the same keys are one object, read once: of thousands most are alike."""
    if not isinstance(agents, Mapping):
        return read(agents)
    kinds = {name: _text_of(keys) for name, keys in agents.items()}
    first = {kind: name for name, kind in reversed(kinds.items())}
    specs = read({name: agents[name] for name in agents if first[kinds[name]] == name})
    every = read({name: specs[first[kind]] for name, kind in kinds.items()})
    return FrozenMap({name: every[name] for name in sorted(every)})


def _text_of(keys: object) -> str | int:
    """Return a text that is the same for equal plain data; of what holds objects, its identity."""
    try:
        return json.dumps(keys)
    except (TypeError, ValueError):
        return id(keys)


class Scenario(Spec):
    """A resolved scenario, without template parameters and generated graphs.

    Agents are sorted by name and channels by (from, to, key), so that equal scenarios have the same YAML.

    Attributes:
        scenario: Its name.
        description: A description in words.
        readout: The agents whose metric is the scenario's metric; None: all agents with an objective.
        env: The environment by id, or from Python a source, or a function `f(num_envs)` that makes them. Names of its signals are
            checked when a simulation begins: its data may lie on another machine.
        agents: The agents by name.
        channels: The channels.
        share: Groups of tied parameters, as `AGENT.PARAMETER`: they start with the values of the first one, and each update
            uses the sum of their gradients.
        training: Batch, steps, optimisers.
        telemetry: What a run records.

    Raises:
        ScenarioError: At construction: one line with the place, the value and the fix.
    """

    scenario: Name
    description: str = ""
    readout: Names = None
    env: Annotated[EnvSpec | object, OrObject(EnvSpec, is_environment)]
    agents: Annotated[dict[Name, AgentSpec], WrapValidator(_each_kind_once)]
    channels: Annotated[tuple[ChannelSpec, ...], Sequence] = ()
    share: Annotated[tuple[Annotated[tuple[str, ...], Sequence], ...], Sequence] = ()
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    telemetry: TelemetrySpec = TelemetrySpec()

    if TYPE_CHECKING:  # what is accepted, as in a document, for type checkers

        def __init__(
            self,
            *,
            scenario: str,
            env: object,
            agents: Mapping[str, AgentSpec | Mapping[str, Any]],
            description: str = "",
            readout: str | Iterable[str] | None = None,
            channels: Iterable[ChannelSpec | Mapping[str, Any]] = (),
            share: Iterable[Iterable[str]] = (),
            training: TrainingSpec | Mapping[str, Any] = ...,
            telemetry: TelemetrySpec | Mapping[str, Any] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _whole(self) -> Self:
        from antiphon.scenarios.checks import check
        from antiphon.scenarios.relations import Relations

        if any(agent.needs_value for agent in self.agents.values()):
            self.__dict__["training"] = self.training.of_policies(tied=bool(self.share))
        self.__dict__["agents"] = FrozenMap({**self.agents, **self._senders_to_actors()})
        check(Relations(self))
        self.__dict__["channels"] = tuple(sorted(self.channels, key=lambda channel: channel.order))
        return self

    def _senders_to_actors(self) -> dict[str, AgentSpec]:
        """Return the agents with predicted credit from acting ones, with the longest window of these if none is given."""
        unrolls: dict[str, Unroll] = {}
        for channel in self.channels:
            actor = self.agents.get(channel.receiver)
            predicted = channel.credits_from_receiver and not channel.coupling.joins_endpoints
            if actor is not None and actor.acts and predicted and channel.sender in self.agents:
                both = unrolls.get(channel.sender, 1), actor.clock.unroll
                unrolls[channel.sender] = "episode" if "episode" in both else max(both)
        clocks = {name: self.agents[name].clock.with_unroll(unroll) for name, unroll in unrolls.items()}
        return {name: self.agents[name].model_copy(update={"clock": clock}) for name, clock in clocks.items()}

    @cached_property
    def readouts(self) -> tuple[str, ...]:
        """The agents whose mean metric is the scenario's metric: not those with a loss of their network alone."""
        goals = {name: agent.objectives.values() for name, agent in self.agents.items() if agent.objectives}
        scored = tuple(
            name for name, objectives in goals.items() if not all(goal.of_network for goal in objectives)
        )
        return self.readout or scored or tuple(goals)

    def with_training(self, **changes: Any) -> Scenario:
        """Return this scenario with some keys of `training` changed, for example `steps=50`.

        Raises:
            ScenarioError: The change is not accepted.
        """
        return self.with_fields(training={**plain(self.training), **changes})

    def with_fields(self, **fields: Any) -> Scenario:
        """Return this scenario with other values of some fields, checked as a whole."""
        return Scenario(**{**{name: getattr(self, name) for name in type(self).model_fields}, **fields})

    @cached_property
    def automatic(self) -> tuple[str, ...]:
        """Which of `delay` and `bits` are `auto` for a channel that can be between two parts."""
        links = [c.link for c in self.channels if not c.coupling.joins_endpoints]
        return tuple(
            name
            for name in ("delay", "bits")
            if any(getattr(link, f"written_{name}") == AUTO for link in links)
        )

    def with_delay(
        self, delay: int, placement: Mapping[str, int] | None = None, bits: int | None = None
    ) -> Scenario:
        """Return this scenario as a pipeline: every `auto` delay becomes a number of steps, so that samples stay aligned.

        A message takes `delay` steps for each change of part along the longest path of such channels. Agents that read it then
        use the sample from which it was computed (`align`).

        Args:
            delay: Steps from one part to the next.
            placement: The part of each agent; None: each agent is a part.
            bits: Of channels between two parts whose bits are `auto`; None: not quantised.
        """
        part_of = placement or {name: number for number, name in enumerate(self.agents)}
        depth = dict.fromkeys(self.agents, 0)
        automatic = [
            c for c in self.channels if c.link.written_delay == AUTO and not c.coupling.joins_endpoints
        ]
        for name in chain(*self.relations.waves):
            for channel in automatic:
                if channel.receiver == name:
                    crosses = part_of[channel.sender] != part_of[name]
                    depth[name] = max(depth[name], depth[channel.sender] + crosses)
        links: dict[str, dict[str, Any]] = {c.name: {} for c in self.channels}
        for channel in self.channels:
            if channel.link.written_bits == AUTO:
                crosses = part_of[channel.sender] != part_of[channel.receiver]
                links[channel.name]["written_bits"] = bits if crosses else None
        for channel in automatic:
            links[channel.name]["written_delay"] = delay * (depth[channel.receiver] - depth[channel.sender])
        return self.with_links(links, {c.receiver for c in automatic if depth[c.receiver]})

    def with_links(self, changes: Mapping[str, Mapping[str, Any]], aligned: Collection[str]) -> Scenario:
        """Return this scenario with other fields of links, by channel, and with `align` for these agents too."""
        agents = {
            name: agent.model_copy(update={"align": agent.align or name in aligned or None})
            for name, agent in self.agents.items()
        }
        links = {c.name: c.link.model_copy(update=dict(changes.get(c.name, {}))) for c in self.channels}
        channels = [c.model_copy(update={"link": links[c.name]}) for c in self.channels]
        return self.with_fields(agents=agents, channels=channels)

    def to_yaml(self) -> str:
        """Return the scenario as YAML.

        Raises:
            ScenarioError: It contains Python objects, such as your own network or environment.
        """
        return self._yaml

    @cached_property
    def _yaml(self) -> str:
        """Every checkpoint has it: written each time, it was a third of the time of one of 300 agents."""
        document = plain(self)
        for path, python_object in _python_objects(document):
            message = f"a Python {name_of(python_object)} cannot be written as YAML; give it a name with antiphon.register, and"
            raise DocumentError(path, f"{message} use that")
        return write(document)

    def __repr__(self) -> str:
        """The scenario in one line: `<Scenario digits-mlp: 4 agents, 3 channels, antiphon/Digits-v0, 1,000 steps of batch 64>`."""
        env = self.env.id if isinstance(self.env, EnvSpec) else type(self.env).__name__
        parts = {"agent": len(self.agents), "channel": len(self.channels)}
        counts = ", ".join(with_count(count, name) for name, count in parts.items())
        return f"<Scenario {self.scenario}: {counts}, {env}, {self.training.steps:,} steps of batch {self.training.batch:,}>"

    __str__ = __repr__

    @classmethod
    def from_yaml(cls, text: str, source: str = "scenario") -> Scenario:
        """Read a scenario from YAML; template parameters have their defaults.

        Raises:
            ScenarioError: The text is not a valid scenario; the message begins with `source:line: `.
        """
        return Template.from_yaml(text, source).resolve()

    def to_graph(self) -> nx.MultiDiGraph:  # type: ignore[type-arg]
        """Return the scenario as a networkx graph.

        Node attributes are the keys of an agent, edge attributes those of a channel (edge keys are channel
        keys), graph attributes the rest of the scenario, all as in a scenario file.
        """
        return graph_of(plain(self))

    @classmethod
    def from_graph(cls, graph: nx.Graph, **fields: Any) -> Scenario:  # type: ignore[type-arg]
        """Make a scenario of a directed networkx graph.

        Args:
            graph: A DiGraph or MultiDiGraph; node attributes are the keys of an agent, edge attributes
                those of a channel. Graph attributes give what `fields` does not, and `name` the `scenario`, if it
                can be one; others of networkx itself are left out.
            **fields: The scenario's other keys (`env`, `scenario`, `readout`, …); those of `training`
                (`batch`, `steps`, `optimiser`, …) may be given directly.

        Raises:
            ScenarioError: The graph is undirected, or not a valid scenario.
        """
        keys = [name for name in cls.model_fields if name not in ("agents", "channels")]
        document = document_of(graph, fields, keys)
        try:
            with uncollected():
                return cls.model_validate(document)
        except DocumentError as error:
            raise named_by_ends(error, document["channels"]) from None

    @cached_property
    def relations(self) -> Relations:
        """What its agents and channels are to one another, each computed once."""
        from antiphon.scenarios.relations import Relations

        return Relations(self)


def _python_objects(value: object, path: DocumentPath = ()) -> Iterator[tuple[DocumentPath, object]]:
    """Yield what is no plain data in nested dicts and lists, with its place."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _python_objects(item, (*path, key))
    elif not isinstance(value, str | int | float | None):
        yield path, value


_OF_RUN = ("steps", "seeds", "seed")
"""Options of a run, which are no parameters."""


@dataclass(frozen=True)
class Template:
    """A scenario file before its parameters are filled in.

    Attributes:
        variants: Named sets of parameter values.
        text: The text of the file.
        document: Its data without parameters and variants, with the line of each key.
    """

    name: str
    description: str
    parameters: Mapping[str, ParameterSpec]
    variants: Mapping[str, Mapping[str, Any]]
    text: str = field(repr=False)
    document: Document = field(repr=False)

    @property
    def source(self) -> str:
        """The name of the file in errors."""
        return self.document.source

    @classmethod
    def from_yaml(cls, text: str, source: str = "scenario") -> Template:
        """Read a template from YAML.

        Raises:
            ScenarioError: Broken YAML, or invalid parameters or variants; the message begins with
                `source:line: `. Other problems are raised by `resolve`.
        """
        document = read(text, source)
        with document.located():
            body = dict(document.data)
            parameters = read_parameters(body.pop("parameters", None))
            variants = read_variants(body.pop("variants", None), parameters)
            used = {*REFERENCE.findall(text)}
            for name in parameters:
                if name not in used <= parameters.keys():  # else a misspelled one is told where it is used
                    line = f"is used nowhere; write ${name} in place of a value, or leave it out"
                    raise DocumentError(("parameters", name), line)
            with within(("scenario",)):
                title = read_name(body["scenario"]) if "scenario" in body else fail(MISSING)
        description = str(body.get("description", ""))
        return cls(title, description, parameters, variants, text, replace(document, data=body))

    def __repr__(self) -> str:
        count = with_count(len(self.parameters), "parameter")
        variants = f", variants {', '.join(self.variants)}" if self.variants else ""
        return f"<Template {self.name}: {count}{variants}>"

    def resolve_values(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the value of every parameter: the given value, else the variant's, else its default.

        Raises:
            ScenarioError: An unknown variant or parameter, or an invalid value.
        """
        resolved = {name: parameter.default for name, parameter in self.parameters.items()}
        if variant is not None:
            resolved |= values_of_variant(self.name, variant, self.variants)
        for name, value in (values or {}).items():
            if name not in self.parameters:
                option = f"; it is an option: write --{name} {value}" if name in _OF_RUN else ""
                fix = option or suggest(name, self.parameters) or "; it has none"
                raise DocumentError((), f"{self.name} has no parameter {name!r}{fix}")
            try:
                resolved[name] = self.parameters[name].read(value)
            except DocumentError as error:
                raise DocumentError((), f"parameter {name!r}: {error}") from None
        return resolved

    def resolve(
        self,
        variant: str | None = None,
        values: Mapping[str, Any] = MappingProxyType({}),
        steps: int | None = None,
    ) -> Scenario:
        """Return the resolved scenario.

        Args:
            variant: The variant whose values replace the defaults; of a template without variants, a coupling of its decoupled
                channels.
            values: Values of single parameters, which override the variant's.
            steps: In place of `training.steps`.

        Raises:
            ScenarioError: One line that names the place in the file, the value and the fix.
        """
        resolved = self.resolve_values(variant, values)
        with self.document.located():
            data = explicit(self.document, resolved)
            training = data.get("training", {})
            if steps is not None and isinstance(training, dict):  # what is no section is refused as it is
                data["training"] = {**training, "steps": steps}
            scenario = Scenario.model_validate(data)
        return scenario if variant is None or self.variants else with_coupling(scenario, variant)

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Add the lines of this file to the problems of its scenario that the body raises."""
        try:
            yield
        except ScenarioError as error:
            problem = error if isinstance(error, DocumentError) else placed(error)
            if not problem.path or problem.path[0] not in Scenario.model_fields:
                raise
            with self.document.located():
                raise problem from None


def values_of_variant(
    name: str, variant: str, variants: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Return the values of a template's variant: none of a coupling, which what has no variants may have."""
    if variant not in (variants or COMPARED):
        raise DocumentError((), f"{name} has no variant {variant!r}{suggest(variant, variants or COMPARED)}")
    return variants.get(variant, {})


def with_coupling(scenario: Scenario, name: str) -> Scenario:
    """Return a scenario whose decoupled channels have another coupling; `local`: local gradients of the target of its agents."""
    decoupled = [c for c in scenario.channels if c.coupling.name == DEFAULT and not c.state]
    if not decoupled:
        raise ScenarioError(f"{scenario.scenario} has no variant {name!r}: none of its channels is decoupled")
    gradient: dict[str, Any] = {}
    if name == "local":
        goals = [goal for agent in scenario.agents.values() for goal in agent.objectives.values()]
        targets = {goal.target for goal in goals}
        if len(targets) > 1 or not all(goal.labels for goal in goals):
            line = f"{scenario.scenario} has no variant 'local': not all agents classify one target"
            raise ScenarioError(line)
        gradient = {"kind": name, "target": targets.pop()}
    channels = {channel.name: channel for channel in scenario.channels}
    for channel in decoupled:
        keys = plain(channel)
        if gradient:
            keys["gradient"] = fitting("gradient", {**keys.get("gradient", {}), **gradient})
        else:
            keys["coupling"] = name
        channels[channel.name] = ChannelSpec.model_validate(keys)
    return scenario.with_fields(channels=channels.values())
