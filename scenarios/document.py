"""Scenarios, explicit, validated and immutable; the templates that resolve to them; and the catalogue of templates: the
library's by name, a user's by the file's path.
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from antiphon.base.deferred import Deferred
from antiphon.base.errors import DataError, ScenarioError
from antiphon.base.extensions import name_of
from antiphon.base.nearest_names import suggest
from antiphon.base.notebook import html_of, html_table
from antiphon.base.problems import (
    UNNAMED,
    DocumentError,
    Problems,
    UnknownKey,
    placed,
    show_refused,
    show_value,
    translate,
)
from antiphon.base.problems import Path as DocumentPath
from antiphon.base.spec import (
    AUTO,
    FrozenMap,
    Name,
    Names,
    OrObject,
    Sequence,
    Spec,
    accepted_keys,
    channel_name,
    fail,
    frozen_data,
    in_python,
    name_problem,
    plain,
    section_of,
)
from antiphon.base.spellings import spelled, standard_keys, suggest_key
from antiphon.comms.couplings import DEFAULT, Detached, Locked
from antiphon.scenarios.agent_specs import AgentSpec, ObjectiveSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.checks import check, unknown_ends
from antiphon.scenarios.graphs.generators import (
    GraphSpec,
    document_of,
    generate,
    graph_of,
    named_by_ends,
    refuse_what_is_too_large,
)
from antiphon.scenarios.parameters import (
    ParameterSpec,
    read_parameters,
    read_variants,
    section,
    substitute,
    unused_parameters,
    uses_parameters,
)
from antiphon.scenarios.relations import Relations, Window
from antiphon.scenarios.sender_passes import in_all_passes, observed_context
from antiphon.scenarios.training import OptimiserSpec, TelemetrySpec, TrainingSpec
from antiphon.scenarios.unknown_keys import with_all_unknown_keys, without
from antiphon.scenarios.yaml_text import Document, read, read_file, write

if TYPE_CHECKING:
    import networkx as nx
else:
    nx = Deferred("networkx")

COMPARED = (Locked.name, DEFAULT, Detached.name, "local")
"""Variants that a scenario without any may have: they show what decoupling costs (`Template.with_couplings`)."""


class EnvSpec(Spec):
    """An environment by its id; all other keys are options of the environment. A word is an id without options.

    Attributes:
        id: An id of antiphon, such as `antiphon/Digits-v0`, or one that you registered. `gymnasium/ID` is an id of Gymnasium's
            registry, such as `gymnasium/CartPole-v1` (`gymnasium/MODULE:ID` if a module registers it); other keys:
            `vectorization_mode` (sync, async or vector_entry_point), `autoreset` (same_step, next_step or disabled) and
            arguments of the environment. `pettingzoo/MODULE` is a module of PettingZoo with a `parallel_env`, such as
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
            fix = _fix_of_object(data)
            return fail(f"must be a mapping of keys, not {show_refused(data)}{fix}") if fix else data
        name = data.get("id")
        if isinstance(name, str) and name.startswith("antiphon/"):  # another may be registered later
            from antiphon.envs.registry import unknown_id

            if (problem := unknown_id(name)) is not None:
                raise DocumentError(("id",), problem)
        if "file" in data:
            from antiphon.envs.registry import with_paths

            data = with_paths(data, Path.cwd())
        return frozen_data(data)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        from antiphon.envs.registry import ids, options_of

        any_schema = handler(core)
        handler.resolve_ref_schema(any_schema)["properties"]["id"]["not"] = {"enum": list(ids())}
        registered = [options_of(name).schema_of(name) for name in ids()]
        return {"anyOf": [{"type": "string"}, *registered, any_schema]}


def _fix_of_object(value: object) -> str:
    """Return what to pass in place of a Python object that is no source of environments; empty where nothing is known of it."""
    register = "antiphon.envs.register('my/Env-v0', MAKE) and env={'id': 'my/Env-v0'}"
    if hasattr(value, "possible_agents") or hasattr(value, "agent_iter"):
        return f"; an environment of PettingZoo is made by its id: {register}, where MAKE returns it"
    if hasattr(value, "reset") and hasattr(value, "step"):
        name = getattr(getattr(value, "spec", None), "id", None) if not isinstance(value, type) else None
        maker = value.__name__ if isinstance(value, type) else f"lambda: {type(value).__name__}(…)"
        ways = [f"env={{'id': 'gymnasium/{name}'}}"] if name else [register.replace("MAKE", maker)]
        ways.append("a gymnasium.vector.SyncVectorEnv of training.batch")
        return f"; a run needs a batch of environments, and this is one: {', or '.join(ways)}"
    if hasattr(value, "entry_point"):
        return f"; write env={{'id': 'gymnasium/{getattr(value, 'id', 'ID')}'}}"
    if isinstance(value, list | tuple):
        if value and all(hasattr(item, "shape") and hasattr(item, "dtype") for item in value):
            return "; use antiphon.envs.from_tensors(image=…, label=…)"
        if not value or not all(hasattr(item, "reset") or callable(item) for item in value):
            return "; write {id: ID}"
        makers = "them" if all(map(callable, value)) else "functions that make them: [lambda: …]"
        return f"; write gymnasium.vector.SyncVectorEnv(…) of {makers}"
    if hasattr(value, "__getitem__") or hasattr(value, "__iter__"):
        return "; data enters by antiphon.envs.from_tensors, from_dataset or from_loader"
    return f"; a function or class that makes environments has an id: {register}" if callable(value) else ""


def _is_environment(value: object) -> bool:
    """Whether a value is a source (it can make environments) or a vector environment itself."""
    if isinstance(value, Spec | Mapping):
        return False
    vector = all(hasattr(value, name) for name in ("num_envs", "reset", "step"))
    return vector or (callable(getattr(value, "make", None)) and not hasattr(value, "entry_point"))


def _sorted_agents(agents: dict[str, AgentSpec]) -> FrozenMap[AgentSpec]:
    return FrozenMap({name: agents[name] for name in sorted(agents)})


_FAST = 0.01
"""The default learning rate of a synthetic gradient whose sender learns in all passes: it follows a receiver that takes many steps."""


def _predicting(channel: ChannelSpec, scene: Relations, *, passes: bool) -> ChannelSpec:
    """A channel whose synthetic gradient has the defaults that depend on what else there is.

    Without what the sender observes as context, the gradient of a symbol is one for all observations, and the sender always says the
    same; and states that share a message are averaged over. `passes`: whether its sender learns in all passes.
    """
    gradient, chosen = channel.gradient, dict[str, Any]()
    given_keys, training = gradient.model_fields_set, scene.scenario.training
    if passes:
        chosen["passes"] = "all"
        unset = type(gradient).model_fields.keys() - given_keys
        chosen |= {key: value for key, value in gradient.in_all_passes.items() if key in unset}
        if gradient.optimiser is None and training.predictor is None:
            chosen["optimiser"] = OptimiserSpec(lr=_FAST)
    returned = gradient.learns_from_returns and gradient.own_target is None
    symbols = channel.symbols is not None and channel.made_coupling.predicts and returned
    if (symbols or passes) and "context" not in given_keys:
        chosen["context"] = observed_context(scene, channel)
    return channel.model_copy(update={"gradient": gradient.model_copy(update=chosen)}) if chosen else channel


class Scenario(Spec):
    """A resolved scenario, without template parameters and generated graphs.

    Agents are sorted by name and channels by (from, to, key), so that equal scenarios have the same YAML.

    Attributes:
        scenario: Its name.
        description: A description in words.
        readout: The agents whose metric is the scenario's metric; None: all agents with an objective.
        env: The environment by id, or from Python a source or a `gymnasium.vector.VectorEnv`. Names of its signals are
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
    env: Annotated[EnvSpec | object, OrObject(EnvSpec, _is_environment)]
    agents: Annotated[dict[Name, AgentSpec], AfterValidator(_sorted_agents)]
    channels: Annotated[tuple[ChannelSpec, ...], Sequence] = ()
    share: Annotated[tuple[Annotated[tuple[str, ...], Sequence], ...], Sequence] = ()
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    telemetry: TelemetrySpec = TelemetrySpec()

    @model_validator(mode="wrap")
    @classmethod
    def _all_unknown_keys(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            refused = translate(error)
        if not isinstance(data, Mapping):
            raise refused
        from antiphon.envs.registry import unknown_keys

        problems = Problems([*refused.separate(), *unknown_keys(data.get("env"))])
        raise with_all_unknown_keys(problems.as_one(), data, cls.model_validate)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if any(agent.needs_value for agent in self.agents.values()):
            self.__dict__["training"] = self.training.of_policies(tied=bool(self.share))
        check(self)
        scene = Relations(self)
        passes = in_all_passes(scene)
        channels = (_predicting(channel, scene, passes=channel.name in passes) for channel in self.channels)
        self.__dict__["channels"] = tuple(sorted(channels, key=lambda channel: channel.order))
        return self

    @cached_property
    def readouts(self) -> tuple[str, ...]:
        """The agents whose mean metric is the scenario's metric: not those with a loss of their network alone."""
        goals = {name: agent.goals.values() for name, agent in self.agents.items() if agent.goals}
        scored = tuple(
            name for name, objectives in goals.items() if not all(goal.of_network for goal in objectives)
        )
        return self.readout or scored or tuple(goals)

    @cached_property
    def locked_agents(self) -> frozenset[str]:
        """The agents that a locked channel joins to another."""
        return frozenset(agent for group in self.locked_groups() if len(group) > 1 for agent in group)

    @property
    def windows(self) -> dict[str, Window]:
        """The window of each agent; a locked group has one window."""
        return self.relations.windows

    def inputs_of(self, agent: str) -> tuple[ChannelSpec, ...]:
        """Return the message channels into an agent, in canonical order (the order of a `concat` fan-in)."""
        self._check_agents("inputs_of", agent)
        return self.relations.inputs[agent]

    def outputs_of(self, agent: str) -> tuple[ChannelSpec, ...]:
        """Return the message channels out of an agent, in canonical order."""
        self._check_agents("outputs_of", agent)
        return self.relations.outputs[agent]

    def state_channel_of(self, agent: str) -> ChannelSpec | None:
        """Return an agent's state channel; None: it has none (the state of a recurrent agent is detached then)."""
        self._check_agents("state_channel_of", agent)
        return self.relations.states.get(agent)

    def _check_agents(self, method: str, *names: str) -> None:
        """Raise ScenarioError where a name is no agent's."""
        for name in names:
            if name not in self.agents:
                raise ScenarioError(f"{method}: no agent {name!r}{suggest(str(name), self.agents)}")

    def locked_groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the agents partitioned into maximal sets joined by locked channels.

        An agent without locked channels is a group of its own.
        """
        return self.relations.locked_groups

    def window(self, group: Iterable[str]) -> Window:
        """Return a locked group's window: steps from one update to the next, or `episode`."""
        names = tuple(group)
        self._check_agents("window", *names)
        return self.relations.window(names)

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Return the order in which agents tick within a step.

        The waves are the topological levels of the message channels without delay, each sorted by name.
        """
        return self.relations.levels[0]

    def with_training(self, **changes: Any) -> Scenario:
        """Return this scenario with some keys of `training` changed, for example `steps=50`.

        Raises:
            ScenarioError: The change is not accepted.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        changed = standard_keys(changes, TrainingSpec.model_fields)
        return Scenario(**{**fields, "training": {**plain(self.training), **changed}})

    @cached_property
    def has_automatic_delays(self) -> bool:
        """Whether a channel that can have a delay has `delay: auto`."""
        return bool(self._automatic)

    @cached_property
    def has_automatic_bits(self) -> bool:
        """Whether a channel that can be between two parts has `bits: auto`."""
        return any(c.link.resolution == AUTO and not c.made_coupling.joins_endpoints for c in self.channels)

    @cached_property
    def _automatic(self) -> list[ChannelSpec]:
        return [c for c in self.channels if c.link.ways == AUTO and not c.made_coupling.joins_endpoints]

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
        for name in chain(*self.waves()):
            for channel in self._automatic:
                if channel.receiver == name:
                    crosses = part_of[channel.sender] != part_of[name]
                    depth[name] = max(depth[name], depth[channel.sender] + crosses)
        links: dict[str, dict[str, Any]] = {c.name: {} for c in self.channels}
        for channel in self.channels:
            if channel.link.resolution == AUTO:
                crosses = part_of[channel.sender] != part_of[channel.receiver]
                links[channel.name]["resolution"] = bits if crosses else None
        for channel in self._automatic:
            links[channel.name]["ways"] = delay * (depth[channel.receiver] - depth[channel.sender])
        return self.with_links(links, {c.receiver for c in self._automatic if depth[c.receiver]})

    def with_links(self, changes: Mapping[str, Mapping[str, Any]], aligned: Collection[str]) -> Scenario:
        """Return this scenario with other links.

        Args:
            changes: By channel, the new fields of its link.
            aligned: Agents that get `align`, in addition to those that have it.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        fields["agents"] = {
            name: agent.model_copy(update={"align": agent.align or name in aligned or None})
            for name, agent in self.agents.items()
        }
        links = {c.name: c.link.model_copy(update=dict(changes.get(c.name, {}))) for c in self.channels}
        fields["channels"] = [c.model_copy(update={"link": links[c.name]}) for c in self.channels]
        return Scenario(**fields)

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
        counts = ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in parts.items())
        return f"<Scenario {self.scenario}: {counts}, {env}, {self.training.steps:,} steps of batch {self.training.batch:,}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the graph and the tables of agents and channels, for notebooks."""
        from antiphon.scenarios.html import html_of

        return html_of(self)

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
            return cls.model_validate(document)
        except DocumentError as error:
            raise named_by_ends(error, document["channels"]) from None

    @cached_property
    def relations(self) -> Relations:
        """What its agents and channels are to one another, each computed once."""
        return Relations(self)


def _python_objects(value: object, path: DocumentPath = ()) -> Iterator[tuple[DocumentPath, object]]:
    """Yield what is no plain data in nested dicts and lists, with its place."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _python_objects(item, (*path, key))
    elif not isinstance(value, str | int | float | None):
        yield path, value


_DECLARATIONS = ("parameters", "variants")
_SECTIONS = {"agent": ("first", "readout", "deal"), "channel": ("split",)}
"""Sections of generated agents and channels, with the sections within them that are of some."""
_OF_SECTIONS: Mapping[str, type[Spec]] = {"agent": AgentSpec, "channel": ChannelSpec}
_KEYS = (*_DECLARATIONS, "graph", *_SECTIONS)


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
        return cls._of_document(text, read(text, source))

    @classmethod
    def rest_of(cls, text: str, source: str, problems: Iterable[DocumentError]) -> Template:
        """Return a template of a file without what has problems, which hide others.

        Raises:
            ScenarioError: See `from_yaml`.
        """
        document = read(text, source)
        rest = without(document.data, [problem.path for problem in problems])
        return cls._of_document(text, replace(document, data={"scenario": "unnamed", **rest}), complete=False)

    @classmethod
    def _of_document(cls, text: str, document: Document, *, complete: bool = True) -> Template:
        """Read a document; `complete`: it is not what is left of one, in which parameters may have lost their use."""

        def read_rest(data: dict[str, Any]) -> Scenario:
            named = {"scenario": "unnamed", **data}  # its key may be the one that is misspelled
            return cls._of_document(text, replace(document, data=named), complete=False).resolve()

        problems = Problems()
        with _located(document, read_rest):
            body = dict(document.data)
            accepted = (*Scenario.model_fields, *_KEYS)
            for key in body:
                if key not in accepted:
                    problems.append(UnknownKey((key,), _unknown_key(Scenario, key, accepted)))
            parameters: Mapping[str, ParameterSpec] = {}
            variants: Mapping[str, Mapping[str, Any]] = {}
            with problems.gathered():
                parameters = read_parameters(body.pop("parameters", None))
                variants = read_variants(body.pop("variants", None), parameters)
                for unused in unused_parameters(body, parameters) if complete else ():
                    problems.append(unused)
            problem = name_problem(body["scenario"]) if "scenario" in body else UNNAMED
            if problem is not None and ("scenario" in body or not problems):  # misspelled, it is reported
                problems.append(DocumentError(("scenario",), problem))
            description = body.get("description", "")
            if not isinstance(description, str):
                message = f"must be text, not {show_refused(description)}"
                problems.append(DocumentError(("description",), message))
            problems.raise_any()
        return cls(body["scenario"], description, parameters, variants, text, replace(document, data=body))

    def __repr__(self) -> str:
        count = len(self.parameters)
        variants = f", variants {', '.join(self.variants)}" if self.variants else ""
        return f"<Template {self.name}: {count} parameter{'s' * (count != 1)}{variants}>"

    def _repr_html_(self) -> str:
        """Return the parameters, the variants, and the scenario of the default values, for notebooks."""
        rows = [
            [name, show_value(parameter.default), parameter.accepts, parameter.description]
            for name, parameter in self.parameters.items()
        ]
        table = html_table(("parameter", "default", "accepts", ""), rows, names=4)
        variants = [
            [name, ", ".join(f"{key}={show_value(value)}" for key, value in values.items())]
            for name, values in self.variants.items()
        ]
        sets = html_table(("variant", "sets"), variants, names=2)
        return html_of(repr(self), table, sets, self.resolve()._repr_html_())

    def with_couplings(self) -> Template:
        """Return the template with variants `locked`, `decoupled` and `detached` of its decoupled channels, if it has no variants.

        If its agents classify one target and the channels have one kind of gradient, there is also a variant `local`.
        """
        if self.variants or {"coupling", "gradient"} & self.parameters.keys():
            return self
        self.resolve()  # what is not accepted is refused first
        body = copy.deepcopy(dict(self.document.data))
        channels = [body["channel"]] if "channel" in body else list(body.get("channels", ()))
        chosen = [
            channel
            for channel in channels
            if channel.get("coupling", DEFAULT) == DEFAULT and "key" not in channel
        ]
        objectives = [agent.get("objective") for agent in dict(body.get("agents", {})).values()]
        targets = {
            objective["target"]
            for objective in objectives
            if isinstance(objective, dict) and "target" in objective
        }
        specs = [
            ObjectiveSpec.spec_of(objective["kind"])
            for objective in objectives
            if isinstance(objective, dict)
        ]
        classify = all(spec.labels for spec in specs)
        gradients = [
            written if isinstance(written := channel.get("gradient", {}), dict) else {"kind": written}
            for channel in chosen
        ]
        kinds = {gradient.get("kind", "linear") for gradient in gradients}
        couplings = (Locked.name, DEFAULT, Detached.name)
        parameters = {"coupling": ParameterSpec(choices=couplings, default=DEFAULT)}
        variants: dict[str, dict[str, Any]] = {
            name: {} if name == DEFAULT else {"coupling": name} for name in couplings
        }
        for channel, gradient in zip(chosen, gradients, strict=True):
            channel["coupling"] = "$coupling"
            if len(targets) == len(kinds) == 1 and classify:
                channel["gradient"] = {**gradient, "kind": "$gradient", "target": next(iter(targets))}
                variants["local"] = {"gradient": "local"}
                kind = next(iter(kinds))
                parameters["gradient"] = ParameterSpec(choices=(kind, "local"), default=kind)
        parameters = {**self.parameters, **parameters}
        document = replace(self.document, data=body)
        return replace(self, parameters=parameters, variants=variants, document=document) if chosen else self

    def resolve_values(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the value of every parameter: the given value, else the variant's, else its default.

        Raises:
            ScenarioError: An unknown variant or parameter, or an invalid value.
        """
        resolved = {name: parameter.default for name, parameter in self.parameters.items()}
        if variant is not None:
            if variant not in self.variants:
                fix = suggest(variant, self.variants)
                if not fix:
                    study = "; `study` compares couplings without it" if variant in COMPARED else ""
                    fix = f"; it has none: declare it under `variants`{study}"
                raise DocumentError((), f"{self.name} has no variant {variant!r}{fix}")
            resolved |= self.variants[variant]
        for name, value in values.items():
            name, value = spelled(name, self.parameters), in_python(value)
            if (problem := self.problem_of_value(name, value)) is not None:
                where = f"parameter {name!r}: " if name in self.parameters else ""
                raise DocumentError((), f"{where}{problem}")
            try:
                resolved[name] = frozen_data(value)
            except DocumentError as error:
                raise DocumentError((), f"parameter {name!r}: {error}") from None
        return resolved

    def problem_of_value(self, name: str, value: object) -> str | None:
        """Return why a parameter cannot have a value, with the fix, such as that there is none; None where it can."""
        name = spelled(name, self.parameters)
        if name not in self.parameters:
            fix = suggest(name, self.parameters)
            fix = fix or "; it has none: change it in the file, or declare it under `parameters`"
            return f"{self.name} has no parameter {name!r}{fix}"
        problem = self.parameters[name].problem(value)
        return None if problem is None else f"{problem}{self._fix_of_choice(name, value)}"

    def _fix_of_choice(self, name: str, value: object) -> str:
        """Return "; write …" where a word that a parameter cannot be is a choice of another one, as `local` is a gradient."""
        if not isinstance(value, str) or not self.parameters[name].choices:
            return ""
        holders = (
            holder for holder, parameter in self.parameters.items() if value in (parameter.choices or ())
        )
        holder = next(holders, None)
        return "" if holder is None else f"; write {holder}={value}"

    def resolve(
        self,
        variant: str | None = None,
        values: Mapping[str, Any] = MappingProxyType({}),
        steps: int | None = None,
    ) -> Scenario:
        """Return the resolved scenario.

        Args:
            variant: The variant whose values replace the defaults.
            values: Values of single parameters, which override the variant's.
            steps: In place of `training.steps`.

        Raises:
            ScenarioError: One line that names the place in the file, the value and the fix.
        """
        document = self._explicit(variant, values)
        training = document.data.get("training", {})
        if steps is not None and isinstance(training, dict):  # what is no section is refused as it is
            document.data["training"] = {**training, "steps": steps}
        with self._placing(document):
            return Scenario.model_validate(document.data)

    def readable_parts(
        self, variant: str | None, values: Mapping[str, Any], problems: Iterable[DocumentError]
    ) -> tuple[Scenario, Problems, Problems]:
        """Return the environment and those agents and channels that can be read without what has problems, or as they are.

        It is not checked as a whole: what is wrong with its single parts shows. The problems of their values are returned too, and
        the channels' ends that are no agent.

        Raises:
            ScenarioError: The environment cannot be read, or there is no list of agents.
        """
        left_out = [problem.path for problem in problems]
        rest = without(self.document.data, left_out)
        first = replace(self, document=replace(self.document, data=rest))._explicit(variant, values).data
        env = EnvSpec.model_validate(first.get("env"))
        bodies = [first]
        with suppress(ScenarioError):
            bodies.append(
                self._explicit(variant, values).data
            )  # it has the keys that a part cannot be without
        refusals = Problems()
        for key, spec in (("training", TrainingSpec), ("telemetry", TelemetrySpec)):
            with refusals.gathered((key,)):
                spec.model_validate(first.get(key, {}))
        read: dict[str, AgentSpec] = {}
        joined: dict[str, ChannelSpec] = {}
        names = set[str]()
        for body in bodies:
            refused = refusals if body is first else Problems()
            agents, channels = body.get("agents"), body.get("channels")
            for name, agent in (agents if isinstance(agents, dict) else {}).items():
                names.add(name)
                with refused.gathered(("agents", name)):
                    read[name] = read.get(name) or AgentSpec.model_validate(agent)
            numbers = (
                count() if body is not first else (n for n in count() if ("channels", n) not in left_out)
            )
            for number, item in zip(numbers, channels if isinstance(channels, list) else (), strict=False):
                with refused.gathered(("channels", number)):
                    channel = ChannelSpec.model_validate(item)
                    joined.setdefault(channel.name, channel)
        ends = Problems(
            DocumentError(("channels", name, key), message)
            for name, channel in (joined.items() if names else ())
            for key, message in unknown_ends(channel, names)
        )
        parts = Scenario.model_construct(env=env, agents=read, channels=tuple(joined.values()))
        return parts, refusals, ends

    def other_variants(self, variant: str | None, values: Mapping[str, Any]) -> Iterator[Scenario]:
        """Yield the scenarios of the other variants, with the given values and with the parameters' defaults.

        Those that cannot be resolved are left out.
        """
        for settings in (values, {}) if values else ({},):
            for name in (None, *self.variants):
                if name != variant or settings != values:
                    with suppress(ScenarioError):
                        yield self.resolve(name, settings)

    @contextmanager
    def placing(self, variant: str | None, values: Mapping[str, Any]) -> Iterator[None]:
        """Add the lines of this file to the problems of its scenario and data that the body raises, one per mistake."""
        try:
            yield
        except ScenarioError as error:
            problem = error if isinstance(error, DocumentError) else placed(error)
            if not problem.path or problem.path[0] not in Scenario.model_fields:
                raise
            with self._placing(self._explicit(variant, values)):
                raise problem from None
        except DataError as error:
            problem = placed(ScenarioError(str(error)))
            if problem.path[:1] != ("env",):
                env = self.document.data.get("env")
                problem = DocumentError(("env", "file") if "file" in (env or ()) else ("env",), str(error))
            raise DataError(str(problem.located(self.source, self.document.lines))) from None

    @contextmanager
    def _placing(self, document: ExplicitDocument) -> Iterator[None]:
        try:
            yield
        except DocumentError as error:
            problems = document.as_written(error.separate())
            problems.sort(key=lambda problem: problem.line(self.document.lines) or 0)
            raise problems.as_one().located(self.source, self.document.lines) from None

    def _explicit(self, variant: str | None, values: Mapping[str, Any]) -> ExplicitDocument:
        """Return the document with every parameter filled in and its graph generated, not validated as a scenario."""

        def read_rest(data: dict[str, Any]) -> Scenario:
            return replace(self, document=replace(self.document, data=data)).resolve(variant, values)

        resolved = self.resolve_values(variant, values)
        with _located(self.document, read_rest):
            body = substitute(self.document.data, resolved)
            if isinstance(body.get("env"), dict) and "file" in body["env"]:
                from antiphon.envs.registry import with_paths

                body["env"] = with_paths(body["env"], Path(self.source).parent)
            sections: dict[DocumentPath, Any] = {}
            problems = Problems()
            for name in _SECTIONS:
                if name in body:
                    with problems.gathered():
                        sections |= _sections(name, body.pop(name))
            problems.raise_any()
            graph = body.pop("graph", None)
            if graph is not None:
                return self._generated(body, graph, sections)
            refuse_what_is_too_large(body)
            for path in sections:
                raise UnknownKey(path, "is for a generated graph, and there is no `graph`; add one")
            return ExplicitDocument(body, self.document.lines)

    def _generated(
        self, body: dict[str, Any], graph: Any, sections: Mapping[DocumentPath, Any]
    ) -> ExplicitDocument:
        try:
            spec = GraphSpec.model_validate(graph)
        except DocumentError as error:
            raise error.under(("graph",)) from None
        split = ("channel", "split")
        if split in sections and spec.split is None:
            raise DocumentError(split, "has no effect without graph.split; give it")
        unfilled = self.document.data["graph"]  # a parameter may be adjacent in another variant
        written = unfilled.get("split") if isinstance(unfilled, Mapping) else None
        if split in sections and isinstance(written, Mapping) and set(written.values()) <= {"all"}:
            raise DocumentError(
                split, "has no effect where graph.split is all; write adjacent, or leave it out"
            )
        refuse_what_is_too_large(body, spec)
        try:
            generated = generate(spec, sections)
        except DocumentError as error:
            raise error.under(("graph",)) from None
        used = {section for used_sections in generated.templates.values() for section in used_sections}
        if split in sections and split not in used and not uses_parameters(unfilled):
            who = " and ".join(f"may use {signal}" for signal in spec.of_adjacent)
            line = f"has no effect, as every sender {who}; use fewer readouts, or leave it out"
            raise DocumentError(split, line)
        agents, channels = body.setdefault("agents", {}), body.get("channels", [])
        if not isinstance(agents, dict) or not isinstance(channels, list):
            return ExplicitDocument(body, self.document.lines)
        for name in agents:
            if name in generated.agents:
                raise DocumentError(
                    ("agents", name), "the graph generates an agent with this name too; rename one"
                )
        body["agents"] = {**agents, **generated.agents}
        body["channels"] = [*channels, *generated.channels]
        if ("agent", "readout") in sections:
            body.setdefault("readout", list(generated.readouts))
        return ExplicitDocument(body, self.document.lines, generated.templates, len(channels))


@dataclass(frozen=True)
class ExplicitDocument:
    """A document with its parameters filled in and its graph generated.

    Attributes:
        data: Its keys and values.
        sections: The paths of the sections of which an agent (by name) or a channel (by number among the generated
            ones) was made, the one that counts most first.
        written: Number of channels that are written out; the generated ones follow.
    """

    data: dict[str, Any]
    lines: Mapping[DocumentPath, int]
    sections: Mapping[str | int, tuple[DocumentPath, ...]] = field(default_factory=dict)
    written: int = 0

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


@contextmanager
def _located(document: Document, read_rest: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Add the lines of a file to the problems that the body raises, and the unknown keys that these hide."""
    try:
        yield
    except DocumentError as error:
        located = error.located(document.source, document.lines)
        problems = Problems(with_all_unknown_keys(located, document.data, read_rest).separate())
        problems.sort(key=lambda problem: problem.line(document.lines) or 0)
        raise problems.as_one() from None


def _unknown_key(spec: type[Spec], key: str, accepted: Iterable[str]) -> str:
    """Return the line about a key that is neither one of a part, nor one that only a document has there."""
    return f"unknown key {key!r}{section_of(spec, key) or suggest_key(key, [*accepted])}"


def _sections(name: str, value: Any) -> Iterator[tuple[DocumentPath, Any]]:
    """Yield a section of generated agents or channels without those within it, and these, with their paths."""
    spec = _OF_SECTIONS[name]
    accepted = {*accepted_keys(spec), *_SECTIONS[name]}
    keys = _standard_section((name,), value, accepted)
    suggested = accepted - {"from", "to"}  # which the graph gives
    unknown = [key for key in keys if key not in accepted]
    Problems(UnknownKey((name, key), _unknown_key(spec, key, suggested)) for key in unknown).raise_any()
    yield (name,), {key: item for key, item in keys.items() if key not in _SECTIONS[name]}
    for subsection in _SECTIONS[name]:
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
        return standard_keys(keys, accepted)
    except DocumentError as error:
        raise error.under(path) from None


_LIBRARY = Path(__file__).with_name("library")
_SUFFIXES = (".yaml", ".yml")


@cache
def library_names() -> tuple[str, ...]:
    """Return the names of the library's scenarios, sorted."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.yaml")))


def catalogue() -> dict[str, Template]:
    """Return the library's templates by name."""
    return {name: load(name) for name in library_names()}


MADE_IN_PYTHON = {
    "gpt": "antiphon.splitting.split_scenarios:gpt",
    "resnet": "antiphon.splitting.split_scenarios:resnet",
    "surrogate": "antiphon.jobs.populations.surrogate:surrogate",
}
"""Functions of the scenarios of the library that no YAML file can hold, by name."""


def suggest_document(name: str, names: Iterable[str]) -> str:
    """Return what `suggest` does, or the YAML file of this name in the working directory; if no name is near, how a file is given."""
    if os.path.isfile(file := f"{name}.yaml"):
        return f"; did you mean '{file}'?"
    suggestion = suggest(name, names)
    return (
        suggestion
        if suggestion.startswith("; did")
        else f"{suggestion}; a file is given with its ending, .yaml"
    )


def load(name_or_path: str | Path) -> Template:
    """Return a template of the library, or read one from a file.

    Args:
        name_or_path: A library name, or the path of a YAML file (it has a suffix or a folder).

    Raises:
        ScenarioError: The scenario or file does not exist, or cannot be read.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise ScenarioError(f"load: must be a name or a path, not {show_refused(name_or_path)}")
    path = Path(os.path.expanduser(name_or_path))
    if isinstance(name_or_path, str) and name_or_path in library_names():
        return _of_library(_LIBRARY / f"{name_or_path}.yaml")
    if path.suffix not in _SUFFIXES and path.parent == Path() and not os.path.isfile(path):
        if (function := MADE_IN_PYTHON.get(str(name_or_path))) is not None:
            module, _, name = function.partition(":")
            raise ScenarioError(
                f"{name_or_path}: is made in Python, and has no YAML template; call it: from {module} import {name}; {name}()"
            )
        fix = suggest_document(str(name_or_path), (*library_names(), *MADE_IN_PYTHON))
        raise ScenarioError(f"no scenario {str(name_or_path)!r}{fix}")
    if str(name_or_path).startswith(("antiphon/", "gymnasium/", "pettingzoo/")) and not path.exists():
        name = str(name_or_path)
        raise ScenarioError(f"{name} is an environment, not a scenario; name it in one: env: {{id: {name}}}")
    return Template.from_yaml(read_file(path), str(path))


def as_scenario(source: Scenario | Template | str | Path) -> Scenario:
    """Return the scenario of a scenario, a template (with its defaults), or a name or file (see `load`).

    Raises:
        ScenarioError: It is something else; or see `load`.
    """
    if isinstance(source, str | Path):
        source = load(source)
    if isinstance(source, Template):
        source = source.resolve()
    if not isinstance(source, Scenario):
        kind = type(source).__name__
        raise ScenarioError(
            f"scenario: must be an antiphon.Scenario, a template, a library name or a YAML file, not {kind}"
        )
    return source


@cache
def _of_library(path: Path) -> Template:
    """Read a template of the library, cached, as the names are: no file of the library changes while antiphon runs."""
    return Template.from_yaml(read_file(path), path.name)
