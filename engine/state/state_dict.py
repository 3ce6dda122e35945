"""The whole state of a simulation as plain data: what a fork copies and a checkpoint writes.

A state is a tree of dicts, lists, numbers, strings and tensors. Step signals are shared by many messages and ticks:
they are kept once, by number. Graphs are never stored; open windows are replayed from their ticks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.objectives import OwnObjective
from antiphon.agents.q_learning import ReplayBuffer
from antiphon.comms.backward_requests import as_leaf
from antiphon.engine.heart.agent import Kept
from antiphon.engine.heart.ends import Inbox, Outbox, Received, Sent, Wire
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.timetable import ReadPlan
from antiphon.engine.heart.window import NO_TICK_YET, CountedRead, LearningGroup, Read, Tick, Window
from antiphon.engine.state.trees import READS, Number, Owner, Tree, from_tree, to_tree

OBJECTS = "objects"
"""Key, in a system's state, of the buffers of users' own objectives by agent: what a loss that is a module keeps between calls."""


def stateful(system: System) -> dict[str, dict[str, Any]]:
    """Return what learns, with a state of its own, by kind and by agent or channel: networks and predictors.

    A synthetic gradient is computed where its sender is, a synthetic input where its receiver is.
    """
    agents, channels = system.agents, system.channels.items()
    parts: dict[str, dict[str, Any]] = {
        "learners": {name: agent.learner for name, agent in system.first_agents().items()},
        "predictors": {name: c.synthetic_gradient.model for name, c in channels if c.sender in agents},
        "inputs": {name: c.synthetic_input.model for name, c in channels if c.receiver in agents},
    }
    return {
        key: {n: owner for n, owner in by_name.items() if owner is not None} for key, by_name in parts.items()
    }


def stacked_parts(system: System) -> list[Any]:
    """Return what stacks have of their members with a leading axis: of agents and predictors."""
    return [owner for by_name in stateful(system).values() for owner in by_name.values() if owner.members]


def snapshot(system: System) -> Tree:
    """Return the state of single agents and channels, without copying a tensor."""
    episode, saved = system.schedule.episode_windows, messages(system)
    return {
        **{
            key: {n: owner.state_dict() for n, owner in by_name.items()}
            for key, by_name in stateful(system).items()
        },
        **state_of_objects(system),
        **saved,
        "episode": None
        if episode is None
        else [episode.episode_start, episode.episode_length, episode.episode_number],
        "signals": [[shared.step, dict(shared.signals)] for shared in saved["signals"]],
    }


def restore_parameters(system: System, state: Mapping[str, Any]) -> Tree:
    """Load what `snapshot` returned, but for messages and windows, and return these for `load_messages`; tensors are used as they are."""
    if system.schedule.episode_windows is not None:
        system.schedule.episode_windows.begin_episode(*state["episode"])
    for key, by_name in stateful(system).items():
        for name, owner in by_name.items():
            owner.load_state_dict(state[key][name])
    load_objects(system, state)
    all_signals = [StepSignals(step, signals) for step, signals in state["signals"]]
    return {**state, "signals": all_signals}


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the buffers of own objectives by agent and by number of the objective, not copied; empty where there are none."""
    saved: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, agent in system.agents.items():
        for number, term in enumerate(() if agent.goal is None else agent.goal.terms):
            if isinstance(term.objective, OwnObjective) and (buffers := term.objective.buffers()):
                saved.setdefault(name, {})[str(number)] = buffers
    return {OBJECTS: saved} if saved else {}


@torch.no_grad()
def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned, of the agents that the system has."""
    for name, present in state_of_objects(system).get(OBJECTS, {}).items():
        for number, saved in state.get(OBJECTS, {}).get(name, {}).items():
            for key, buffer in present[number].items():
                buffer.copy_(saved[key])


def with_statistics(state: Mapping[str, Any]) -> Tree:
    """Return a state whose open and kept windows begin with the running statistics that its learners have now."""

    def begun(window: Tree) -> Tree:
        before = {name: state["learners"][name]["buffers"] for name in window["statistics_before"]}
        return {**window, "statistics_before": before}

    def of_group(group: Tree) -> Tree:
        return {"window": begun(group["window"]), "waiting": [begun(window) for window in group["waiting"]]}

    return {**state, "groups": [of_group(group) for group in state["groups"]]}


def learned_of(state: Mapping[str, Any]) -> Tree:
    """Return what a state has that is no message or window: what is learned, and own objectives where there are any."""
    return {key: state[key] for key in ("learners", "predictors", "inputs", OBJECTS) if key in state}


def messages(system: System) -> Tree:
    """Return what is on the way and in open windows, and the events, of single agents or of stacks.

    `signals` are the step signals themselves, which messages and ticks have by number.
    """
    all_signals: dict[StepSignals, int] = {}

    def number(step_signals: StepSignals) -> int:
        return all_signals.setdefault(step_signals, len(all_signals))

    return {
        "events": [list(event) for event in system.events],
        "wires": {name: _ends(channel.wire, number) for name, channel in system.channels.items()},
        "groups": [
            {
                "window": to_tree(group.window, number),
                "waiting": [to_tree(window, number) for window in group.waiting],
            }
            for group in system.groups
        ],
        "agents": {name: to_tree(agent.kept, number) for name, agent in system.agents.items()},
        "signals": list(all_signals),
    }


def load_messages(system: System, state: Mapping[str, Any]) -> None:
    """Load what `messages` returned of single agents, or of the same stacks."""
    signals = state["signals"]
    for name, channel in system.channels.items():
        channel.synthetic_input.pop_examples()
        _load_ends(channel.wire, state["wires"][name], signals)
    for name, agent in system.agents.items():
        kept, buffer = state["agents"][name], state["agents"][name]["replay_buffer"]
        agent.kept = from_tree(
            Kept,
            kept,
            signals,
            newest_states=[(step, value) for step, value in kept["newest_states"]],
            replay_buffer=None if buffer is None else from_tree(ReplayBuffer, buffer, signals),
        )
    system.events[:] = [(step, line) for step, line in state["events"]]
    for group, saved in zip(system.groups, state["groups"], strict=True):
        group.window, *group.waiting = (
            _loaded_window(tree, group, system, signals) for tree in (saved["window"], *saved["waiting"])
        )


def _ends(wire: Wire, number: Number) -> Tree:
    """The ends of a channel: all messages that a window needs are among theirs."""
    outbox, inbox = wire.outbox, wire.inbox
    return {
        "outbox": {
            "sent": [to_tree(sent, number) for sent in outbox.sent.values()],
            "back": [[step, [sent.stamp for sent in back]] for step, back in outbox.back.items()],
            **to_tree(outbox, number),
        },
        "inbox": {
            "messages": [to_tree(received, number) for received in inbox.messages.values()],
            **to_tree(inbox, number),
        },
    }


def _load_ends(wire: Wire, saved: Mapping[str, Any], signals: Sequence[StepSignals]) -> None:
    def loaded(kind: type[Owner], trees: Sequence[Tree]) -> dict[int, Owner]:
        return {
            tree["stamp"]: from_tree(kind, tree, signals, plan=from_tree(ReadPlan, tree["plan"], signals))
            for tree in trees
        }

    sender, receiver = saved["outbox"], saved["inbox"]
    sent = loaded(Sent, sender["sent"])
    back = {step: [sent[stamp] for stamp in stamps] for step, stamps in sender["back"]}
    messages = loaded(Received, receiver["messages"])
    wire.outbox = from_tree(Outbox, sender, signals, wire=wire, sent=sent, back=back)
    wire.inbox = from_tree(Inbox, receiver, signals, wire=wire, holds=wire.inbox.holds, messages=messages)


def _loaded_window(
    saved: Mapping[str, Any],
    group: LearningGroup,
    system: System,
    signals: Sequence[StepSignals],
) -> Window:
    number, agents = saved["number"], system.agents
    learning_rows_by_agent = {}
    if number != NO_TICK_YET:
        learning_rows_by_agent = {name: agents[name].learning_rows(number) for name in group.agent_names}
    statistics_before = {name: dict(buffers) for name, buffers in saved["statistics_before"].items()}
    sent = [(name, system.channels[name].wire.outbox.sent[stamp]) for name, stamp in saved["sent"]]
    counted_reads: dict[tuple[str, int, int | None], CountedRead] = {}

    def read(tree: Tree) -> Read:
        if tree["kind"] != "leaf":
            return from_tree(READS[tree["kind"]], tree, signals)
        key = tree["channel_name"], tree["received"], tree["only_tick"]
        if key not in counted_reads:
            wire = system.channels[tree["channel_name"]].wire
            value = as_leaf(tree["value"]) if wire.returns_gradients else tree["value"]
            received = wire.inbox.messages[tree["received"]]
            counted_reads[key] = from_tree(CountedRead, tree, signals, received=received, value=value)
        return counted_reads[key]

    def tick(tree: Tree) -> Tick:
        return from_tree(
            Tick,
            tree,
            signals,
            reads_by_channel=[[*map(read, of_channel)] for of_channel in tree["reads_by_channel"]],
            state_read=None if tree["state_read"] is None else read(tree["state_read"]),
            learning_rows=learning_rows_by_agent[tree["agent_name"]],  # one object, as where a tick begins
        )

    calls = [[tick(tree) for tree in call] for call in saved["ticks_by_call"]]
    window = from_tree(
        Window,
        saved,
        signals,
        statistics_before=statistics_before,
        ticks_by_call=calls,
        sent=sent,
        counted_reads=counted_reads,
        learning_rows_by_agent=learning_rows_by_agent,
    )
    tick_of = {(tick.agent_name, tick.step): tick for tick in window.ticks()}
    for name, message in sent:  # a replay sends the same samples again
        channel = system.channels[name]
        if channel.content.sampler is not None:
            tick_of[channel.sender, message.stamp].sampled_messages[name] = message.value
    return window
