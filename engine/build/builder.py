"""The builder: from a scenario (immutable data) to a system, in named steps.

What does not fit raises ScenarioError, whose line names the place, here and in what is called.

1. shapes; 2. learners (one per agent, or per group of tied agents); 3. agents; 4. channels; 5. groups; 6. schedule.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from antiphon.agents.feedforward import HeadedNetwork
from antiphon.agents.learner import Learner
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import VALUE, Described, Head, Masked, Network, Tensors, features_of
from antiphon.agents.objectives import AnyObjective, Weighted
from antiphon.agents.observation_statistics import OF_CRITICS, OF_NETWORKS, initial
from antiphon.base.errors import suggest
from antiphon.base.problems import DocumentError, Path, within
from antiphon.base.tools import by_key
from antiphon.comms.couplings import Detached
from antiphon.engine.build.channels import Wiring, connect, optimiser_of
from antiphon.engine.build.policy_checks import life_of, mask_place, policy_goal
from antiphon.engine.build.shapes import Shape, candidates_of, default_norm, resolve
from antiphon.engine.heart.agent import AGE, Agent, Goal, Inputs, Observed, Participation
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import Clock, EpisodeWindows, StepWindows, TickSchedule, WindowGrid
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup
from antiphon.engine.state.checkpoint import read_weights
from antiphon.envs.signal import ALIVE, Description
from antiphon.nets.random import generator, seed_for
from antiphon.scenarios.agent_specs import AgentSpec, CriticSpec, NetworkSpec, ObjectiveSpec, Observing
from antiphon.scenarios.channel_specs import STATE, ChannelSpec
from antiphon.scenarios.relations import agent_and_parameter, tied_agents
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.training import SPLITS, split_metric

Seen = tuple[tuple[Shape, str], ...]
"""The shape and layout of each observation, for a network that finds the images among its flat inputs."""


def build(
    scenario: Scenario,
    env: Description,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    local_agents: Container[str] | None = None,
) -> System:
    """Make a system; every part samples from `seed`, that of the run, by its own name.

    Args:
        scenario: Resolved.
        local_agents: The agents that are computed; others, and the predictors of their messages, have shapes and no memory. None: all.
    """
    shapes = resolve(scenario, env)
    system = _SystemBuilder(scenario, env, seed, device, dtype, shapes, local_agents).build()
    _check_evaluation(scenario, system)
    return system


def _check_evaluation(scenario: Scenario, system: System) -> None:
    evaluate, env = scenario.training.evaluate, system.description
    if evaluate is None:
        return
    goals = system.goals()
    acting = any(goal.policy is not None for goal in goals.values())
    splits = env.splits or (SPLITS if acting else ())
    if not splits or (acting and env.endless):
        message = "the environment has no splits to evaluate on, or episodes that never end; leave it out"
        raise DocumentError(("training", "evaluate"), message)
    if evaluate.episodes is not None and not acting:
        message = "has no effect here: no agent has a policy; leave it out"
        raise DocumentError(("training", "evaluate", "episodes"), message)
    if evaluate.split not in splits:
        message = f"no split {evaluate.split!r}{suggest(evaluate.split, splits)}"
        raise DocumentError(("training", "evaluate", "split"), message)
    for path, metric in evaluate.judged_by.items():
        path = ("training", "evaluate", *path)
        agent, metric_name = split_metric(metric)
        if agent is not None and agent not in goals:
            message = f"no agent {agent!r} with an objective{suggest(agent, goals)}"
            raise DocumentError(path, message)
        judged = scenario.readouts if agent is None else (agent,)
        metrics = {metric for name in judged for metric in goals[name].objective.metrics}
        metrics |= {"loss" for name in judged if goals[name].policy is None}
        if metric_name not in metrics:
            raise DocumentError(path, f"no metric {metric_name!r} here{suggest(metric_name, metrics)}")


@dataclass(frozen=True)
class _SystemBuilder(Wiring):
    _networks: dict[Hashable, Network] = field(default_factory=dict)
    """Networks of built-in kinds by what they are made of: of equal agents there is one, with parameters for each."""

    def build(self) -> System:
        agents = self.agents
        self._make_agents()
        self._check_passes()
        specs = [*(c for c in self.scenario.channels if not c.state), *self._memories()]
        tied = tie_parameters(self.scenario, agents)
        episode = None
        if self.env.longest_episode is not None:  # windows of agents that learn once an episode: lengths vary
            episode = EpisodeWindows(self.env.longest_episode)
        groups = self._groups(episode)
        self.group_of.update((name, group) for group in groups for name in group.agent_names)
        clocks = {name: agent.clock for name, agent in agents.items()}
        channels: dict[str, Channel] = {}
        for spec in sorted(specs, key=lambda channel: channel.order):
            channel = channels[spec.name] = self.channel(spec)
            connect(channel, agents)
        system = System(
            agents,
            channels,
            groups,
            TickSchedule(clocks, self._calls(), episode),
            self.env,
            self.scenario.training.batch,
            self.dtype,
            self.device,
            sweeps=self.scenario.training.sweep,
            tied_parameters=tied,
        )
        if self.scenario.training.precision == "float32":
            return system
        if self.dtype is not torch.float32:
            message = f"bf16 needs parameters in float32, not {str(self.dtype).removeprefix('torch.')}; leave it out"
            raise DocumentError(("training", "precision"), message)
        for trained in system.trained_parameters:
            trained.bf16 = True
        return system

    def _memories(self) -> Iterator[ChannelSpec]:
        """Yield the state channels of all agents with a state: where the scenario names none, a detached one."""
        for name, agent in self.agents.items():
            named = self.scenario.relations.states.get(name)
            if agent.learner.network.state_size:
                implied = {"from": name, "to": name, "key": STATE, "coupling": Detached.name}
                yield named or ChannelSpec.model_validate(implied)
            elif named is not None:
                message = f"agent '{name}' has no state: its module has no state_size; give it one, or use another key"
                raise DocumentError(("channels", named.name, "key"), message)

    # --- agents ------------------------------------------------------------------------------------------

    def _make_agents(self) -> None:
        learners, tied = dict[str, Learner](), tied_agents(self.scenario.share)
        lives = any(signal.startswith(f"{ALIVE}.") for signal in self.env.signals)
        for name, spec in self.scenario.agents.items():
            owner = spec.share or name
            key = f"share:{owner}" if spec.share else name
            participation = None
            if spec.p_update != 1:
                seed = seed_for(self.seed, "update", spec.share or min(tied.get(name, (name,))))
                participation = Participation(spec.p_update, (seed,))
            align = self.scenario.relations.inputs[name][0].name if spec.align is True else spec.align
            if key not in learners:
                learners[key] = self._learner(name, owner, spec)
            elif spec.share:
                self._check_tied(name)
            self.agents[name] = Agent(
                name,
                Clock(spec.clock.period, spec.clock.phase),
                learners[key],
                Inputs(
                    self._observed(name, "network", spec),
                    categories=spec.categories,
                    align_channel_name=align or None,
                    critic_observed=self._observed(name, "critic", spec.critic),
                    has_target_network=spec.has_target,
                ),
                self._goal(name, spec, learners[key].network),
                acts=spec.acts,
                life_name=life_of(name, spec, self.env) if lives else "",
                random_seed=seed_for(self.seed, "agent", name),
                participation=participation,
                layout=self.layout,
            )

    def _check_passes(self) -> None:
        """Refuse batch norm of agents whose ticks a policy passes over in minibatches."""
        relations = self.scenario.relations
        for name, spec in self.scenario.agents.items():
            if spec.objective is None or spec.objective.passes < 2:
                continue
            group = next(group for group in relations.locked_groups if name in group)
            for member in (*group, *(c.sender for c in relations.inputs[name] if c.replayed)):
                learner, of_module = self.agents[member].learner, self.scenario.agents[member].layers is None
                networks = (learner.critic,) if of_module else (learner.network, learner.critic)
                if any(network is not None and _has_batch_norm(network) for network in networks):
                    message = f"batch norm has different statistics in each minibatch of {name!r}; use norm: layer or none"
                    raise DocumentError(("agents", member), message)

    def _observed(self, name: str, network: str, observer: Observing | None) -> Observed:
        if observer is None:
            return Observed()
        return Observed(observer.observes, self.shapes.layouts.get((name, network), ()), observer.normalised)

    def _learner(self, name: str, owner: str, spec: AgentSpec) -> Learner:
        kind, rate = optimiser_of(spec.optimiser, self.scenario)
        network, critic, declared = self._network(name, owner, spec), None, spec.critic
        if self.env.pads and spec.learn and _has_batch_norm(network):
            fix = "use layer norm (norm: layer, torch.nn.LayerNorm), or sequences of one length"
            message = f"batch norm would count the padding of sequences in its statistics; {fix}"
            raise DocumentError(("agents", name), message)
        statistics = self._statistics(name, spec, declared)
        if declared is not None:
            value = (Head(VALUE, (1,)),)
            seen = self._seen((name, "critic"), declared.observes, spec)
            critic = self._built_in(declared.network, spec, self.shapes.critics[name], value, seen)
        with within(("agents", name)):
            learner = Learner(
                network,
                generator(self.seed, "agent", owner, "parameters"),
                critic,
                returns=_normalises(spec.objective),
                has_target_network=spec.has_target,
                statistics=statistics,
                optimiser=kind,
                rate=rate,
                frozen=not spec.learn,
                device=self.device_of(name),
                dtype=self.dtype,
                owner=f"agents.{name}",
            )
        if spec.parameters is not None:
            read_weights(learner, spec.parameters, ("agents", name, "parameters"))
        return learner

    def _statistics(self, name: str, spec: AgentSpec, critic: CriticSpec | None) -> Tensors:
        statistics: Tensors = {}
        observers: list[tuple[Path, str, AgentSpec | CriticSpec]] = [((), OF_NETWORKS, spec)]
        if critic is not None:
            observers.append((("objective", "critic"), OF_CRITICS, critic))
        for path, kind, observer in observers:
            for index in observer.normalised:
                observed = observer.observes[index]
                signal = None if observed == AGE else self.env.all_signals[observed]
                if signal is None or signal.classes is not None or not features_of(signal.shape):
                    message = f"{observed!r} is a count or a class, which is not normalised; leave it out"
                    raise DocumentError(("agents", name, *path, "normalise"), message)
                statistics[f"{kind}.{index}"] = initial(features_of(signal.shape))
        return statistics

    def _network(self, name: str, owner: str, spec: AgentSpec) -> Network:
        """The network of an agent; `owner`: the name that its parameters are seeded by, that of its group where it has one (`share`)."""
        network: Network
        layers, inputs, heads = spec.layers, self.shapes.inputs[name], self.shapes.heads[name]
        with within(("agents", name)):
            if layers is None:
                options = spec.network.options if isinstance(spec.network, NetworkSpec) else {}
                seed = seed_for(self.seed, "agent", owner, "module")
                network = ModuleNetwork(spec.source, inputs, heads, seed, options, own_loss=spec.own_loss)
            else:
                seen = self._seen((name, "network"), spec.observes, spec)
                network = self._built_in(layers, spec, inputs, heads, seen)
        if spec.objective is None or spec.objective.mask is None:
            return network
        return Masked(network, mask_place(name, self.scenario, self.env, self.shapes))

    def _seen(self, network_key: tuple[str, str], observes: tuple[str, ...], spec: AgentSpec) -> Seen:
        layouts = self.shapes.layouts.get(network_key)
        if layouts is None:
            return ()
        ages = (len(self.scenario.relations.inputs[network_key[0]]),)
        shapes = [
            ages if name == AGE else self.env.signals[name].shape_as(spec.categories) for name in observes
        ]
        return tuple(zip(shapes, layouts, strict=True))

    def _built_in(
        self, network: NetworkSpec, spec: AgentSpec, inputs: Shape, heads: tuple[Head, ...], seen: Seen
    ) -> Network:
        norm = network.get("norm") or default_norm(spec, self.env)
        made_of = network, norm, inputs, heads, seen, spec.observes[:1], spec.categories
        if made_of not in self._networks:
            kind: type[HeadedNetwork] = network.source
            first = partial(candidates_of, spec, self.env)
            self._networks[made_of] = kind(
                Described(network.kind, network.options | {"norm": norm}, inputs, heads, first, seen)
            )
        return self._networks[made_of]

    def _check_tied(self, name: str) -> None:
        """Refuse an agent whose learner is not made as that of the others that it shares with, as its environment decides (27a)."""
        share = self.scenario.agents[name].share
        earlier = next(n for n, other in self.scenario.agents.items() if other.share == share)
        if self._made_of(name) != self._made_of(earlier):
            message = f"its inputs, ports or objective differ from agent {earlier!r}, with which it shares parameters"
            raise DocumentError(("agents", name, "share"), f"{message} (share: {share}); make them equal")

    def _made_of(self, name: str) -> object:
        """What an agent's learner is made of, beside what is compared without its environment."""
        spec = self.scenario.agents[name]
        goal, critic = spec.objective, spec.critic
        statistics = self._statistics(name, spec, critic).items()
        masked = goal is not None and goal.mask is not None
        return (
            features_of(self.shapes.inputs[name]),
            [(head.name, head.size, head.norm) for head in self.shapes.heads[name]],
            self._seen((name, "network"), spec.observes, spec),
            {key: moments.shape for key, moments in statistics},
            mask_place(name, self.scenario, self.env, self.shapes) if masked else None,
            _normalises(goal),
            spec.has_target,
            goal.get("period") if goal is not None and goal.has_target else None,
            self.shapes.critics.get(name),
            critic and (critic.network, self._seen((name, "critic"), critic.observes, spec)),
        )

    def _goal(self, name: str, spec: AgentSpec, network: Network) -> Goal | None:
        if not spec.objectives:
            return None
        if spec.needs_rewards:
            return policy_goal(name, self.scenario, self.env, self.shapes, network)
        objective = self.shapes.objectives[name]
        if not isinstance(objective, Weighted):
            ((path, goal),) = spec.objectives.items()
            return self._target_goal(name, spec, path, goal, objective)
        summands = (
            replace(self._target_goal(name, spec, *goal_in, part), output_slice=outputs)
            for goal_in, part, outputs in zip(
                spec.objectives.items(), objective.parts, objective.outputs, strict=True
            )
        )
        return Goal(objective, "", False, 1.0, summands=tuple(summands))

    def _target_goal(
        self, name: str, spec: AgentSpec, path: Path, goal: ObjectiveSpec, objective: AnyObjective
    ) -> Goal:
        """Bind an objective, at a place in its agent's spec, to its target; a network's own loss may have none."""
        episodes = self.env.is_stream and self.env.episode_steps == self.env.hold
        last = goal.read == "last" or (goal.read is None and episodes)
        if last and not self.env.is_stream:
            raise DocumentError(
                ("agents", name, *path, "read"), "'last' needs a stream of examples; use 'each'"
            )
        period, steps = spec.clock.period, self.env.sequence_steps
        if goal.target in self.env.at_ends and (steps % period or (spec.clock.phase + 1) % period):
            message = f"it ticks every {period} steps, and the lengths of the sequences are multiples of {steps}: it would miss ends"
            fix = f"give it phase -1, and sequences whose lengths are multiples of {period}"
            raise DocumentError(("agents", name, "clock"), f"{message}, where '{goal.target}' counts; {fix}")
        return Goal(
            objective, goal.target or "", last, goal.scale, mean_over_targets=goal.reduction == "mean"
        )

    # --- groups and schedule ------------------------------------------------------------------------------

    def _groups(self, episode: EpisodeWindows | None) -> list[LearningGroup]:
        groups = []
        for members in self.scenario.relations.learning_groups:
            windows = self._windows(members, episode)
            within = set(members)
            sent = (channel for name in members for channel in self.scenario.relations.outputs[name])
            awaited = {c.name: c.horizon for c in sent if c.coupling.waits and c.receiver not in within}
            groups.append(LearningGroup(members, windows, horizons=awaited))
        return groups

    def _windows(self, members: tuple[str, ...], episode: EpisodeWindows | None) -> WindowGrid:
        """The windows of a learning group (semantics 14, 16, 27a); `episode`: of those that learn once an episode of varying length."""
        window, agents = self.scenario.relations.window(members), self.scenario.agents
        if window != "episode":
            first = agents[members[0]].clock
            if any(len(self.scenario.relations.locked[name]) > 1 for name in members):
                return StepWindows(window)
            assert isinstance(first.unroll, int)
            return StepWindows.of_ticks(Clock(first.period, first.phase), first.unroll)
        if self.env.episode_steps is not None:
            return StepWindows(self.env.episode_steps)
        if episode is not None:
            return episode
        declared = next((name for name in members if agents[name].clock.unroll == "episode"), None)
        if declared is None:
            raise DocumentError(
                ("agents", members[0]),
                "its locked state makes its window a whole episode, and this environment's episodes have no known length; "
                "use coupling detached or decoupled for the state",
            )
        message = "'episode' needs episodes of one known length; use a number of ticks, such as 16"
        raise DocumentError(("agents", declared, "clock", "unroll"), message)

    def _calls(self) -> list[list[tuple[str, ...]]]:
        waves = self.scenario.relations.waves
        return [
            [*map(tuple, by_key((self.agents[name].learner, name) for name in wave).values())]
            for wave in waves
        ]


@torch.no_grad()
def tie_parameters(
    scenario: Scenario, agents: Mapping[str, Agent]
) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Give all parameters of each tie the values of its first, and return the ties as agents and parameters."""
    ties = []
    for index, group in enumerate(scenario.share):
        tied = tuple(agent_and_parameter(name) for name in group)
        first: Tensor | None = None
        for position, (name, parameter) in enumerate(tied):
            parameters = agents[name].learner.parameters
            path = ("share", index, position)
            if parameter not in parameters:
                raise DocumentError(
                    path, f"agent {name!r} has no parameter {parameter!r}{suggest(parameter, parameters)}"
                )
            tensor = parameters[parameter]
            if first is None:
                first = tensor
            elif tensor.shape != first.shape:
                shapes = f"has shape {list(tensor.shape)}, {group[0]!r} has {list(first.shape)}"
                raise DocumentError(path, f"{group[position]!r} {shapes}; tied parameters need one shape")
            else:
                tensor.copy_(first)
        ties.append(tied)
    return tuple(ties)


def _has_batch_norm(network: Network) -> bool:
    return any(name.rpartition(".")[2] in ("mean", "running_mean") for name in network.buffers())


def _normalises(goal: ObjectiveSpec | None) -> bool:
    return goal is not None and goal.get("normalise") == "returns"


def without_weights(scenario: Scenario) -> Scenario:
    """Return a scenario in which no agent takes its numbers out of another run."""
    agents = {name: spec.model_copy(update={"parameters": None}) for name, spec in scenario.agents.items()}
    return scenario.model_copy(update={"agents": agents})


def build_to_look(scenario: Scenario, env: Description, dtype: torch.dtype = torch.float32) -> System:
    """Return the system of a scenario without numbers, so that it takes hardly any memory; users' modules have theirs."""
    scenario = without_weights(scenario)
    predictors = [predictor for c in scenario.channels for predictor in (c.gradient, c.input) if predictor]
    of_user = any(agent.layers is None for agent in scenario.agents.values())
    of_user |= any(not predictor.built_in for predictor in predictors)
    optimisers = [trained.optimiser for trained in (*scenario.agents.values(), *predictors)]
    optimisers += [scenario.training.optimiser, scenario.training.predictor]
    of_user |= any(
        optimiser.is_users for optimiser in optimisers if optimiser
    )  # it may read the parameters' numbers
    with torch.device("cpu" if of_user else "meta") as device:
        return build(scenario, env, seed=0, device=device, dtype=dtype)


def check_build(scenario: Scenario, env: Description) -> System:
    """Return the system of a scenario to look at, the weights that it takes out of other runs checked."""
    if any(agent.parameters for agent in scenario.agents.values()):
        return build(scenario, env, seed=0, device=torch.device("cpu"), dtype=torch.float32)
    return build_to_look(scenario, env)
