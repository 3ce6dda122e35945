"""Warnings about valid but probably unintended settings, one line each; among them keys that are kept, but have no
effect for the chosen kind or coupling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from antiphon.base.errors import ScenarioError, with_article
from antiphon.base.extensions import name_of
from antiphon.base.kinds import KindSpec
from antiphon.base.spec import AUTO, plain
from antiphon.comms.coupling_catalogue import OPTIONAL_KEYS
from antiphon.comms.endpoint_values import STATES
from antiphon.scenarios.agent_specs import POLICY_WINDOW, AgentSpec, ObjectiveSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.checks import speaking
from antiphon.scenarios.relations import reachable
from antiphon.scenarios.scenario import Scenario, Template
from antiphon.scenarios.sender_passes import has_state, may_be_chosen, needed_keys
from antiphon.scenarios.training import OptimiserSpec

PREDICTOR_RATE = "training.predictor.lr"
_OWN_RATE = "gradient.optimiser.lr"
_RATES = ("training.optimiser.lr", PREDICTOR_RATE, _OWN_RATE, "input.optimiser.lr")
_ADVISED = (*_RATES, "link.drop", "link.delay")
"""Keys of settings that advice on channels names."""
FAR_FASTER = 50
"""The least ratio of a predictor's learning rate to its sender's that is warned of."""
FASTER_WHERE_POOR = 10
"""The least ratio of these rates that a hint names where the median cosine is poor."""
_FAR_SLOWER = 100
"""The least ratio of a sender's learning rate to its predictor's that is warned of,"""
_IDLE = 1e-5
"""if the predictor's is at most this, so that it is not the sender's that is amiss."""
_UNREACHED = "reached by no learning signal"
_FROZEN = (
    "its module has no parameter that requires a gradient, so it does not learn; call the module's requires_grad_(), or "
    "write learn: false"
)
_NONE_LEARNS = (
    "no agent learns, so the training changes none of their parameters; let one with a learning signal learn"
)


class Finding(NamedTuple):
    """A warning about an agent, a channel or a setting, told apart from others by what it is about, not by its words.

    Attributes:
        kind: `agent`, `channel` or `setting`.
        name: Of the agent or the channel; of a setting its path.
        unused: The key that it says has no effect, by its path in the part: a variant of a template may use it.
        control: The condition that a variant of a template may intend, as a control to compare the others with.
    """

    kind: str
    name: str
    message: str
    unused: str = ""
    control: str = ""


_Subject = tuple[str, str, str, str]
"""A finding without its words."""
_Unused = Iterator[tuple[str, str]]
"""Keys without effect, each with the reason."""


def _unused(kind: str, name: str, key: str, reason: str) -> Finding:
    return Finding(kind, name, f"{key} is not used {reason}", unused=key)


def _of(channel: ChannelSpec, message: str, control: str = "") -> Finding:
    return Finding("channel", channel.name, message, control=control)


def _unused_by_channel(channel: ChannelSpec) -> _Unused:
    reason, link, coupling = (
        f"by {with_article(channel.coupling.name)} channel",
        channel.link,
        channel.coupling,
    )
    loses, given_keys = coupling.replaces_messages or link.loses, channel.given_keys
    if coupling.predicts:
        yield from ((f"gradient.{key}", why) for key, why in channel.gradient.unused())
        yield from _without_layers(channel.gradient, "gradient")
    used = coupling.keys
    # one that is written out, although it is the default, is meant
    written = given_keys | ({"gradient"} & channel.model_fields_set)
    yield from ((key, reason) for key in OPTIONAL_KEYS if key in written and key not in used)
    if coupling.predicts and channel.input is not None:
        unused = channel.input.unused() if loses else [("", "where the link loses nothing")]
        yield from ((f"input.{key}".rstrip("."), why) for key, why in unused)
        if loses:
            yield from _without_layers(channel.input, "input")
    if coupling.joins_endpoints and channel.feedback is not None:
        yield from ((f"feedback.{key}", why) for key, why in channel.feedback.unused())
    if link.back != link.delay and not _returns(channel):
        yield "the second value of link.delay", reason
    if channel.size is None and "norm" in given_keys:
        yield "norm", "by a channel without a size"
    for key in ("link.noise", "link.bits") if link.drop == 1 else ():
        if key in given_keys:
            yield key, "where every message is lost"


def _returns(channel: ChannelSpec) -> bool:
    """Whether something returns over the link of a channel: nothing does to a kind that learns from its own loss alone."""
    coupling, gradient = channel.coupling, channel.gradient
    if not channel.written_coupling.built_in or not coupling.predicts:
        return coupling.uses_return_path
    return gradient.learns_from_returns or "returned" in gradient.context


def _unused_by_agent(agent: AgentSpec) -> _Unused:
    if agent.layers is not None:
        yield from _without_layers(agent.layers, "network")
    for goal in agent.objectives.values():
        yield from ((f"objective.{key}", why) for key, why in goal.unused())
    if not agent.learn and agent.optimiser is not None:
        yield "optimiser", "by an agent that does not learn"


def _unused_beside_others(scenario: Scenario) -> Iterator[Finding]:
    """Return the keys of agents and of the training that have no effect by what the rest of the scenario is."""
    of_group = Counter(agent.share for agent in scenario.agents.values())
    for name, agent in scenario.agents.items():
        if agent.share is not None and of_group[agent.share] == 1:
            yield _unused("agent", name, "share", "by the only agent of its group")
        if agent.align and not _is_late(scenario):
            why = "where every message is read at the step at which it is sent; leave it out, or write link.delay"
            yield _unused("agent", name, "align", why)
        for goal in agent.objectives.values():
            if goal.reward and not any(goal.reward.values()):
                message = (
                    "learns from no reward, as all weights of objective.reward are 0; give one another weight"
                )
                yield Finding("agent", name, message, control="reward")
            if goal.critic is not None and goal.get("value", 1.0) == 0:
                message = "its critic learns nothing, as objective.value is 0; give value a weight above 0"
                yield Finding("agent", name, message, control="value")
    several = {agent.fan_in for name, agent in scenario.agents.items() if len(scenario.inputs_of(name)) > 1}
    for name, agent in scenario.agents.items():
        alone = (
            agent.fan_in not in several and agent.fan_in.get("heads", 1) == 1
        )  # several heads repeat a message
        if alone and agent.fan_in.built_in and not agent.fan_in.side_by_side:
            count = "one incoming channel" if scenario.inputs_of(name) else "no incoming channel"
            yield _unused("agent", name, "fan_in", f"by an agent with {count}")
    discounted = [
        channel
        for channel in scenario.channels
        if channel.coupling.predicts
        and "discount" in channel.gradient.given_keys
        and channel.gradient.discount
    ]
    if not any(scenario.inputs_of(c.sender) or has_state(scenario.agents[c.sender]) for c in discounted):
        why = "where no sender reads messages or has a state: nobody bootstraps from its prediction"
        yield from (_unused("channel", channel.name, "gradient.discount", why) for channel in discounted)
    if scenario.training.predictor is not None and not any(map(_trained_as_all, scenario.channels)):
        why = "where no channel has a predictor that learns without an optimiser of its own"
        yield _unused("setting", "training", "predictor", why)
    if scenario.training.sweep and not scenario.channels:
        yield _unused("setting", "training", "sweep", "where no agent sends messages")


def _trained_as_all(channel: ChannelSpec) -> bool:
    """Whether `training.predictor` trains a model of a channel: of its synthetic gradient, or of its synthetic input."""
    coupling, gradient, model = channel.coupling, channel.gradient, channel.input
    predicts = coupling.predicts and gradient.learn and gradient.optimiser is None
    reads = model is not None and (coupling.replaces_messages or (coupling.predicts and channel.link.loses))
    return predicts or (reads and model is not None and model.learn and model.optimiser is None)


def _is_late(scenario: Scenario) -> bool:
    """Whether a message may be read after the step at which it is sent. A delay that is written, be it 0, is a decision."""
    late = {"channels.link.drop", "agents.clock.period", "agents.clock.phase"}
    return not late.isdisjoint(scenario.relations.given) or any(
        channel.coupling.replaces_messages or "written_delay" in channel.link.model_fields_set
        for channel in scenario.channels
    )


def warn_14_one_window(scenario: Scenario) -> Iterator[Finding]:
    """Agents that locked channels join learn once in a common window, whatever `unroll` each has."""
    for group in scenario.relations.learning_groups:
        window = scenario.window(group)
        learns = "once an episode" if window == "episode" else f"every {window} steps"
        for name in group:
            agent, alone = scenario.agents[name], scenario.window([name])
            is_given = "unroll" in agent.clock.model_fields_set
            if (
                is_given
                and alone != window
                and not (agent.needs_value and agent.clock.unroll == POLICY_WINDOW)
            ):
                message = (
                    f"learns {learns}, not every {alone} as its clock.unroll says: {listed('agent', list(group))} learn as "
                    "one network; give them the same unroll"
                )
                yield Finding("agent", name, message, control="unroll")


def _without_layers(spec: KindSpec, path: str) -> _Unused:
    if not spec.get("hidden", True):
        for key in {"norm", "activation"} & set(plain(spec)):
            yield f"{path}.{key}", "without hidden layers"


_MOST_NAMED = 4
_OF_A_STREAM = (
    "of tokens before a classification: most of the returned gradient is noise of the labels, and in a GPT of ours all direct "
    "kinds ended worse than detached; use kind lens or local, or compare with coupling: detached"
)
_COLLAPSE = (
    "a synthetic gradient of symbols without the sender's observations is the same for all of them, and the "
    "language collapses to one symbol; add the sender's observations to gradient.context"
)
_BLIND = (
    "a synthetic gradient of a policy without the sender's observations averages over all states that share a "
    "message; add the sender's observations to gradient.context"
)
_IN_FIRST = "learns in the receiver's first pass alone, which taught MPE's speaker no more than detached"
_IN_NOISE = "in all passes taught a signalling game, but MPE's speaker less than detached, as each minibatch has noise of its own"


def warnings(scenario: Scenario, variants: Iterable[Scenario] = ()) -> list[str]:
    """Return warnings about probably unintended settings, one line each.

    Agents without any learning signal or that observe their own target; channels that are never read, lose every message or
    carry no gradient; predictors without effect; and keys that the chosen kind or coupling does not use.

    Args:
        scenario: The scenario.
        variants: The same scenario in the other variants of its template. A control (agents without a learning signal, a
            critic alone) and a key that another variant uses are then intended.
    """
    return in_lines(findings(scenario, variants))


def findings(scenario: Scenario, variants: Iterable[Scenario] = ()) -> list[Finding]:
    of_scenario, intended = list(_all(scenario)), set[_Subject]()
    compared = {_subject(finding) for finding in of_scenario if finding.unused or finding.control}
    for variant in variants if compared else ():
        same = {_subject(finding) for finding in _all(variant)}
        intended |= {subject for subject in compared - intended if not _is_among(subject, same)}
        if intended == compared:
            break
    return [finding for finding in of_scenario if _subject(finding) not in intended]


def about(kind: str, names: Iterable[str], message: str) -> Iterator[Finding]:
    """Yield one finding of several agents, channels or settings, which is one line (`in_lines`)."""
    yield from (Finding(kind, name, message) for name in names)


def in_lines(findings: Iterable[Finding]) -> list[str]:
    """Return a line for each message, with all parts that it is about."""
    names_by_message: dict[tuple[str, str], dict[str, None]] = {}
    for finding in findings:
        names_by_message.setdefault((finding.kind, finding.message), {})[finding.name] = None
    return [f"{listed(kind, [*names])}: {message}" for (kind, message), names in names_by_message.items()]


def fast_predictor(scenario: Scenario, channel: ChannelSpec, times: float = FAR_FASTER) -> tuple[str, str]:
    """Return what is said of a channel's predictor if it learns far faster than its sender, and what to try; empty: it does not.

    Args:
        times: How many times its sender's rate is far faster, at least; fewer than `FAR_FASTER` only with poor cosines beside it.
    """
    sender, predictor, key = _rates(scenario, channel)
    if not channel.gradient.learn or predictor.lr < times * sender.lr:
        return "", ""
    above = "far above" if times == FAR_FASTER else f"{predictor.lr / sender.lr:.3g} times"
    says = f"its predictor's learning rate, {predictor.lr:g}, is {above} its sender's, {sender.lr:g}"
    return says, f"a lower {key} (such as {sender.lr:g})"


def slow_predictor(scenario: Scenario, channel: ChannelSpec) -> tuple[str, str]:
    """Return what is said of a channel's predictor if it hardly learns while its sender does, and what to try; empty: it learns."""
    sender, predictor, key = _rates(scenario, channel)
    alike = sender.unit_steps and predictor.unit_steps
    if not (
        channel.gradient.learn and alike and _FAR_SLOWER * predictor.lr <= sender.lr and predictor.lr <= _IDLE
    ):
        return "", ""
    says = f"its predictor hardly learns: its learning rate, {predictor.lr:g}, is far below its sender's, {sender.lr:g}"
    usual = OptimiserSpec.model_fields["lr"].default
    return says, f"a higher {key} (such as {min(sender.lr, usual):g})"


def _rates(scenario: Scenario, channel: ChannelSpec) -> tuple[OptimiserSpec, OptimiserSpec, str]:
    """Return the optimisers of a channel's sender and of its predictor, and the key of the latter's learning rate."""
    training, own = scenario.training, channel.gradient.optimiser
    sender = scenario.agents[channel.sender].optimiser or training.optimiser
    predictor = own or training.predictor or training.optimiser
    return sender, predictor, _OWN_RATE if own else PREDICTOR_RATE


def typed_names(template: Template | None) -> dict[str, str]:
    """Return the parameters of a template that set what advice names, by the keys of these, which no command takes then."""
    named = {} if template is None else {key: template.parameter_of(key) for key in _ADVISED}
    return {key: parameter for key, parameter in named.items() if parameter is not None}


def typed_names_of_run(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the `typed_names` of a run, from the content of run.json; empty where it has no template in a file."""
    written = facts.get("template") or {}
    with suppress(ScenarioError):
        if written.get("text"):
            return typed_names(Template.from_yaml(written["text"], str(written["source"])))
    return {}


def as_typed(text: str, typed: Mapping[str, str]) -> str:
    """Return a text with parameters in place of the keys that they set (`typed_names`)."""
    for key, parameter in typed.items():
        text = text.replace(key, parameter)
    return text


def listed(kind: str, names: list[str]) -> str:
    """Return the first of some agents or channels, and their count, as `agents a, b, c, d, … (9 in all)`; or paths of settings."""
    shown = ", ".join(names[:_MOST_NAMED])
    if len(names) > _MOST_NAMED:
        shown += f", … ({len(names)} in all)"
    if kind == "setting":
        return shown
    return f"{kind} {shown}" if len(names) == 1 else f"{kind}s {shown}"


def _subject(finding: Finding) -> _Subject:
    return finding.kind, finding.name, finding.unused, finding.control


def _is_among(subject: _Subject, subjects: Collection[_Subject]) -> bool:
    """Whether another variant, of which the subjects are given, has the finding too, or one of the whole section of its key."""
    kind, name, key, control = subject
    sections = [key[:end] for end in range(len(key) + 1) if key[end : end + 1] in ("", ".")]
    return any((kind, name, section, control) in subjects for section in sections)


def _all(scenario: Scenario) -> Iterator[Finding]:
    yield from warn_15_blocked(scenario)
    yield from warn_2_signal(scenario)
    upstream, rules = _Upstream(scenario), speaking(_OF_CHANNELS, scenario.relations.given)
    for channel in scenario.channels:
        yield from chain.from_iterable(warn(scenario, channel, upstream) for warn in rules)
        yield from (_unused("channel", channel.name, *unused) for unused in _unused_by_channel(channel))
    for name, agent in scenario.agents.items():
        for target in (goal.target for goal in agent.objectives.values() if goal.target in agent.observes):
            message = f"observes its own target {target!r}, which it can copy; leave out one of them"
            yield Finding("agent", name, message)
        yield from (_unused("agent", name, *unused) for unused in _unused_by_agent(agent))
        for goal in agent.objectives.values():
            lines = goal.unfinished(scenario.training.steps)
            yield from (Finding("agent", name, f"objective.{line}") for line in lines)
    yield from _unused_beside_others(scenario)
    yield from warn_14_one_window(scenario)
    evaluate = scenario.training.evaluate
    if evaluate is not None and (keys := evaluate.selected_on_test):
        message = f"{' and '.join(keys)} select{'s' * (len(keys) == 1)} on the test split, so its score is no test; "
        yield Finding("setting", "training.evaluate", f"{message}use split: validation")
    value, steps = scenario.telemetry.value, scenario.training.steps
    if evaluate is not None and (message := evaluate.unreached(steps)):
        yield Finding("setting", "training.evaluate", message)
    if value is not None and value.period > steps:
        message = f"measures nothing before step {value.period}, and training.steps is {steps}"
        yield Finding("setting", "telemetry.value", message)


@dataclass(frozen=True)
class _Upstream:
    """The agents from which messages lead to objectives, over any number of agents."""

    scenario: Scenario

    @cached_property
    def learning(self) -> frozenset[str]:
        """The agents whose messages lead to one with an objective."""
        return self._to(lambda objective: True)

    @cached_property
    def classifying(self) -> frozenset[str]:
        """The agents whose messages lead to one that classifies."""
        return self._to(lambda objective: objective.classifies)

    @cached_property
    def acting(self) -> frozenset[str]:
        """The agents whose messages lead to policies, and to no other objective."""
        return self._to(lambda objective: objective.needs_rewards) - self._to(
            lambda objective: not objective.needs_rewards
        )

    def _to(self, counts: Callable[[ObjectiveSpec], bool]) -> frozenset[str]:
        agents = self.scenario.agents.items()
        goals = [name for name, agent in agents if any(map(counts, agent.objectives.values()))]
        return reachable(goals, [(c.receiver, c.sender) for c in self.scenario.channels])


def warn_15_blocked(scenario: Scenario) -> Iterator[Finding]:
    """A gradient passes over a locked channel within a window."""
    for name in sorted(scenario.relations.blocked):
        message = "no gradient passes, as the delay is a whole window; use unroll: episode"
        yield Finding("channel", name, message)


def warn_2_signal(scenario: Scenario) -> Iterator[Finding]:
    """An agent that learns has a learning signal, and parameters; and some agent learns."""
    reached = scenario.relations.reached
    for name, agent in scenario.agents.items():
        if agent.learn and name not in reached:
            yield Finding("agent", name, _UNREACHED, control="signal")
        elif agent.learn and agent.frozen:
            yield Finding("agent", name, _FROZEN)
    if not any(agent.learn and agent.trainable for name, agent in scenario.agents.items() if name in reached):
        yield Finding("setting", "agents", _NONE_LEARNS, control="learning")


def warn_13_read_in_time(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """A message is read within the training."""
    sender, receiver = scenario.agents[channel.sender].clock, scenario.agents[channel.receiver].clock
    arrival = sender.phase % sender.period + channel.link.delay
    read = arrival + (receiver.phase - arrival) % receiver.period
    if read >= scenario.training.steps:
        yield _of(
            channel, f"not read before step {read + 1}, and training.steps is {scenario.training.steps}"
        )


def warn_16_state_of_an_episode(
    scenario: Scenario, channel: ChannelSpec, upstream: _Upstream
) -> Iterator[Finding]:
    """A decoupled state is passed between windows."""
    if channel.state and channel.coupling.predicts and scenario.windows[channel.sender] == "episode":
        yield _of(channel, "the window is the episode, so no state is passed between windows; make it locked")


def warn_2_leads_to_an_objective(
    scenario: Scenario, channel: ChannelSpec, upstream: _Upstream
) -> Iterator[Finding]:
    """A message leads to an objective."""
    if not channel.state and channel.receiver not in upstream.learning:
        yield _of(channel, "leads to no agent with an objective")


def warn_18_messages(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """Several messages are there to be read, and not all are lost."""
    periods = [scenario.agents[name].clock.period for name in (channel.sender, channel.receiver)]
    if channel.read != "last" and periods[1] <= periods[0]:
        yield _of(
            channel,
            f"read {channel.read} is the same as read last: its receiver ticks at least as often as its sender",
        )
    if channel.link.drop == 1:
        yield _of(
            channel, "loses every message: right for a control; else give it a link.drop below 1", "lost"
        )


def warn_26_norm(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """Layer norm of two components keeps little more than which of them is larger."""
    if channel.norm == "layer" and channel.port_components == 2:
        yield _of(
            channel,
            "norm layer of 2 components sends little more than which of them is larger; use norm none, or a larger size",
        )


def warn_9_kind(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """A kind of synthetic gradient fits the messages."""
    gradient = channel.gradient
    if not channel.coupling.predicts:
        return
    if gradient.control is not None:
        yield _of(channel, gradient.control, name_of(gradient.kind))
    if _is_direct(channel) and _is_residual_stream(channel, upstream):
        yield _of(channel, f"{with_article(name_of(gradient.kind))} gradient {_OF_A_STREAM}")
    lines = gradient.advice(channel.shape, at_sites=channel.at_sites(gradient))
    yield from (_of(channel, line) for line in lines)


def warn_42b_noise(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """A predictor learns from each minibatch of further passes, and is held to what they have in common."""
    gradient, relations = channel.gradient, scenario.relations
    kept_first = gradient.passes == AUTO and may_be_chosen(relations, channel)
    if not ((channel.replayed or kept_first) and gradient.learn and gradient.built_in):
        return
    why, changed = _IN_FIRST if kept_first else _IN_NOISE, needed_keys(relations, channel)
    if "kind" in changed and kept_first:  # in all passes `mean` taught that speaker
        linear = f"linear and context: {changed['context']}" if "context" in changed else "linear"
        yield _of(
            channel,
            f"{with_article(name_of(gradient.kind))} gradient {why}; use {linear}, or make gradient.passes first",
        )
    if "rescale" in changed:
        yield _of(channel, f"rescale: none {why}; leave out gradient.rescale, or make gradient.passes first")
    if channel.replayed and gradient.get("norm") == "batch":
        # Returns of four seeds, 1,200 steps: -14.8 ± 1.5; -11.6 ± 1.5 with none.
        yield _of(
            channel, "norm: batch in all passes taught MPE's speaker less than none; leave out gradient.norm"
        )


def warn_3_followed(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """A predicted gradient changes the sender's parameters, or what it returns to senders of its own."""
    sender = scenario.agents[channel.sender]
    tied = sender.share is not None or any(channel.sender in group for group in scenario.share)
    followed = channel.coupling.predicts and channel.gradient.scale > 0
    if followed and not (sender.learn or tied or scenario.inputs_of(channel.sender)):
        yield _of(
            channel, "its sender does not learn, so its synthetic gradient trains nothing; make it detached"
        )


def warn_9_learned(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """A predicted gradient is learned: layers begin at zero, and a module of a user's may have been trained before."""
    gradient = channel.gradient
    if gradient.learn or not (channel.coupling.predicts and gradient.apply):
        return
    from antiphon.comms.synthetic_gradients import Predictor

    layers = isinstance(gradient.source, type) and issubclass(gradient.source, Predictor)
    if layers and (gradient.direct or (gradient.own_target is not None and gradient.get("network") is None)):
        yield _of(
            channel,
            "gradient.learn is false from the start, so the predicted gradient stays 0; let it learn, or make it detached",
        )


def warn_23_context(scenario: Scenario, channel: ChannelSpec, upstream: _Upstream) -> Iterator[Finding]:
    """A gradient of symbols, or of a policy, is conditioned on what the sender observes."""
    observed = {*scenario.agents[channel.sender].observes, STATES["from"]}
    if channel.state or not _is_direct(channel) or not observed.isdisjoint(channel.gradient.context):
        return
    if channel.symbols is not None:
        yield _of(channel, _COLLAPSE, "collapse")
    elif len(observed) > 1 and channel.receiver in upstream.acting:
        yield _of(channel, _BLIND)


def warn_18_synthetic_input(
    scenario: Scenario, channel: ChannelSpec, upstream: _Upstream
) -> Iterator[Finding]:
    """A synthetic input predicts from something, and replaces what a link would change."""
    model = channel.input
    coupling = channel.coupling
    if model is None or not (coupling.replaces_messages or (coupling.predicts and channel.link.loses)):
        return
    if not model.context:
        yield _of(channel, "its synthetic input has no context and predicts the mean; give it observations")
    if coupling.replaces_messages and (channel.link.noise > 0 or channel.link.bits is not None):
        yield _of(channel, "noise and bits only affect the training of its synthetic input")


_OF_CHANNELS: Mapping[Callable[[Scenario, ChannelSpec, _Upstream], Iterator[Finding]], Sequence[str]] = {
    warn_13_read_in_time: ("channels.link.delay", "agents.clock.period", "agents.clock.phase"),
    warn_16_state_of_an_episode: ("channels.key",),
    warn_2_leads_to_an_objective: (),
    warn_18_messages: ("channels.read", "channels.link.drop"),
    warn_26_norm: ("channels.norm",),
    warn_9_kind: (),
    warn_42b_noise: ("agents.objective",),
    warn_3_followed: ("agents.learn",),
    warn_9_learned: ("channels.gradient.learn",),
    warn_23_context: (),
    warn_18_synthetic_input: ("channels.input",),
}
"""Warnings about a channel: functions of the scenario, the channel and what messages lead to, each with the settings of which it
speaks (`speaking`)."""


def _is_direct(channel: ChannelSpec) -> bool:
    """Whether the sender follows a prediction of the returned gradient alone."""
    return channel.coupling.predicts and channel.gradient.scale > 0 and channel.gradient.direct


def _is_residual_stream(channel: ChannelSpec, upstream: _Upstream) -> bool:
    """Whether messages are [tokens, features] and lead to an agent that classifies."""
    if channel.state or not isinstance(channel.size, tuple) or len(channel.size) != 2:
        return False
    return channel.receiver in upstream.classifying
