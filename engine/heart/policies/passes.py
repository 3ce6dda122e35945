"""Further passes over a window: what `ppo` learns from it after the first one (Schulman et al. 2017, algorithm 1).

Over minibatches of environments they move the parameters of the agent's learning group alone, and those of senders that are
replayed beside it (rule 42b): a sender that takes one step a window for the receiver's dozens follows it too slowly. An agent with
a replay buffer learns from windows of it in place of the newest.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from antiphon.agents.advantages import RETURNS, Trajectory
from antiphon.agents.network import OBJECTIVE, Tensors
from antiphon.agents.policy_objectives import PassConstants, PolicyObjective, PolicyPorts
from antiphon.agents.q_learning import QLearning, ReplayBuffer
from antiphon.base.problems import DocumentError
from antiphon.comms.backward_requests import (
    BackwardRequest,
    Gradients,
    Slopes,
    as_leaf,
    backward_all,
    constant,
)
from antiphon.comms.examples import Example
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.backward import coupling_credit
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.moving import Moving
from antiphon.engine.heart.policies.learning import WindowsAtOnce, passes_of, policy_ports
from antiphon.engine.heart.policies.window_evaluation import (
    InStack,
    WindowEvaluation,
    at_places,
    chosen,
    in_rows,
    link_noise,
    received,
    rows_through,
)
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PolicyWindow, PredictorUpdate, Update, WindowLoss
from antiphon.engine.heart.window import Window
from antiphon.nets.mask import ALL, NONE, Mask
from antiphon.nets.random import seed_for, uniform_many


@dataclass(slots=True)
class _WindowPasses:
    """A window with further passes."""

    update: Update
    """What its first pass learned."""
    loss: WindowLoss
    """The losses of the first pass of agents with further ones."""
    policy: PolicyObjective
    evaluation: WindowEvaluation | DrawnWindows
    orders: dict[str, list[Tensor]]
    """By agent, the rows of each minibatch."""
    senders: list[ReplayedSender] = field(default_factory=list)
    constants: dict[str, list[PassConstants]] = field(default_factory=dict)
    """By policy, those of each minibatch."""


class FurtherPasses:
    """Makes the further passes over the windows that end at a step, in the same order for all groups."""

    def __init__(
        self,
        single_systems: Sequence[System],
        windows_at_once: WindowsAtOnce,
        predictor_trainer: PredictorTrainer,
        moving: Moving,
    ) -> None:
        self.system, self.windows_at_once = moving.system, windows_at_once
        self.forward_pass, self.moving = windows_at_once.forward_pass, moving
        self.predictor_trainer = predictor_trainer
        self.agents = {name for name, agent in self.system.agents.items() if passes_of(agent) > 1}
        self._seeds = {
            name: [
                _leader(single_systems[agent.layout.seed_of(n)], member).random_seed
                for n, member in enumerate(agent.members)
            ]
            for group in self.system.groups
            if not self.agents.isdisjoint(group.agent_names)
            for name, agent in ((name, self.system.agents[name]) for name in group.agent_names)
        }
        """By stack: of each member, the seed of the first agent with further passes that it learns with."""
        self._seeds_by_uses: dict[tuple[object, ...], Tensor] = {}
        for channel in self.system.channels.values():
            if channel.synthetic_gradient.replayed:
                _check_replayable(channel, self.system)

    def take(self, turns: Sequence[Sequence[Update]], step: int) -> None:
        """Take all further passes over the windows of each turn, and move the parameters after each."""
        for turn in turns:
            windows = [
                self._window(update, turn, step)
                for update in turn
                if not self.agents.isdisjoint(update.window_loss.policy_windows)
            ]
            for epoch in range(1, max((window.policy.epochs for window in windows), default=1)):
                windows_of_epoch = [window for window in windows if window.policy.epochs > epoch]
                for k in range(max(window.policy.minibatches for window in windows_of_epoch)):
                    learned, predictors = list[Update](), dict[str, PredictorUpdate]()
                    for window in windows_of_epoch:
                        if k < window.policy.minibatches:
                            self._learn(window, epoch, k, step, learned, predictors)
                    self.moving.settle(learned, step)
                    of_predictors = [*predictors.items()]
                    self.moving.check_predictors(of_predictors, step)
                    self.moving.move([learned], of_predictors, step, further=True)

    def _window(self, update: Update, first_passes: Sequence[Update], step: int) -> _WindowPasses:
        first = update.window_loss
        own = {name: window for name, window in first.policy_windows.items() if name in self.agents}
        loss = WindowLoss(
            reported_loss_by_agent={name: first.reported_loss_by_agent[name] for name in own},
            policy_windows=own,
        )
        agents = {name: self.system.agents[name] for name in update.group.agent_names}
        leader = agents[next(iter(own))]
        policy = leader.policy
        assert policy is not None
        orders = {name: self._order(agent, policy, step) for name, agent in agents.items()}
        if policy.replay > 1:  # it learns alone
            (seeds,) = self._seeds_of(leader.name, [("replay",)])
            drawn = DrawnWindows(update.window, leader, own[leader.name], self.forward_pass, seeds)
            return _WindowPasses(update, loss, policy, drawn, orders)
        update_by_agent = {name: one for one in first_passes for name in one.group.agent_names}
        senders = [
            ReplayedSender(
                self.forward_pass, self.predictor_trainer, channel, update_by_agent[channel.sender]
            )
            for agent in agents.values()
            for channel in agent.connections.incoming
            if channel.synthetic_gradient.replayed
        ]
        evaluation = self.windows_at_once.pop_evaluation(update.group, update.window)
        constants = {name: _constants(agents[name], window, orders[name]) for name, window in own.items()}
        return _WindowPasses(update, loss, policy, evaluation, orders, senders, constants)

    def _order(self, agent: Agent, policy: PolicyObjective, step: int) -> list[Tensor]:
        """The rows of each minibatch, as many of each member: the environments are in another order in each epoch."""
        uses = [("epoch", str(epoch)) for epoch in range(1, policy.epochs)]
        seeds, batch = self._seeds_of(agent.name, uses), self.system.batch
        numbers = uniform_many(seeds.flatten(), step, batch).view(*seeds.shape, batch)
        members = torch.arange(seeds.shape[1], device=self.system.device).unsqueeze(1) * batch
        rows = numbers.argsort(dim=2, stable=True) + members
        parts = [part.flatten(1).unbind() for part in rows.tensor_split(policy.minibatches, dim=2)]
        return [part for of_epoch in zip(*parts, strict=True) for part in of_epoch]

    def _seeds_of(self, agent: str, uses: Sequence[tuple[str, ...]]) -> Tensor:
        """[U, N] int64: the seeds of a stack's random numbers of some uses, such as the order in an epoch, made once."""
        if (agent, *uses) not in self._seeds_by_uses:
            seeds = [[seed_for(seed, *use) for seed in self._seeds[agent]] for use in uses]
            self._seeds_by_uses[agent, *uses] = torch.tensor(seeds, device=self.system.device)
        return self._seeds_by_uses[agent, *uses]

    def _learn(
        self,
        window: _WindowPasses,
        epoch: int,
        k: int,
        step: int,
        learned: list[Update],
        predictors: dict[str, PredictorUpdate],
    ) -> None:
        """Add what is learned from a minibatch of a window: by its group, and by the senders that are replayed beside it."""
        update, agents = window.update, self.system.agents
        index = (epoch - 1) * window.policy.minibatches + k
        rows = {name: order[index] for name, order in window.orders.items()}
        if isinstance(window.evaluation, DrawnWindows):
            slopes = [window.evaluation.slopes(rows, epoch)]
        else:
            leaves = [sender.send_again(rows) for sender in window.senders]
            this_pass = window.evaluation.evaluate(rows, dict(ChainMap(*leaves)))
            slopes = [
                self._slopes(
                    agents[name], own, rows[name], this_pass.ports[name], window.constants[name][index]
                )
                for name, own in window.loss.policy_windows.items()
            ]
        name = next(iter(window.loss.policy_windows))
        request = BackwardRequest(
            slopes=[*chain.from_iterable(slopes)],
            parameters={
                learner: agents[learner].learner.trainable for learner in update.gradients_by_learner
            },
            values_read=[sender.read for sender in window.senders],
        )
        sender_requests = [(sender, own) for sender in window.senders if (own := sender.request(step))]
        (gradients, returned), *of_senders = backward_all(
            [request, *(own for _, own in sender_requests)], len(rows[name]) // len(agents[name].members)
        )
        learned.append(
            Update(update.group, update.window, window.loss, update.group.mean_over_agents(gradients))
        )
        for (sender, _), (of_sender, _) in zip(sender_requests, of_senders, strict=True):
            learned.append(sender.update(of_sender))
        examples = {
            sender.channel.name: sender.examples(gradient)
            for sender, gradient in zip(window.senders, returned, strict=True)
            if self.predictor_trainer.learns(sender.channel)
        }
        predictors |= self.predictor_trainer.differentiate_predictors(examples)

    @staticmethod
    def _slopes(
        agent: Agent, window: PolicyWindow, rows: Tensor, ports: Tensors, constants: PassConstants
    ) -> Slopes:
        """What a policy learns from a minibatch; how far it has changed is noted."""
        assert agent.policy is not None
        slopes, change = agent.policy.slopes(policy_ports(agent, ports, window.ticks, rows), constants)
        if change is not None:
            window.policy_changes.append(change)
        return slopes


def _constants(agent: Agent, window: PolicyWindow, rows: Sequence[Tensor]) -> list[PassConstants]:
    assert agent.goal is not None
    of_first = window.trajectory.actions, window.first_pass_losses.log_prob, window.advantages
    return PassConstants.of_parts(*of_first, agent.goal.weight, len(agent.members), rows)


def _check_replayable(channel: Channel, system: System) -> None:
    """Check that the ticks and environments of a channel's ends can be evaluated apart.

    Raises:
        DocumentError: One has a network with a state, or whose samples depend on each other.
    """
    for name in (channel.sender, channel.receiver):
        network = system.agents[name].learner.network
        mixed = "its network has a state" if network.state_size else network.row_split_obstacle()
        if mixed is not None:
            message = f"all replays ticks and environments apart, and those of '{system.agents[name].member_names[0]}' depend on each other: "
            raise DocumentError(
                ("channels", channel.member_names[0], "gradient", "passes"), f"{message}{mixed}; use first"
            )


def _leader(base: System, agent: Agent) -> Agent:
    """The first agent with further passes that an agent learns with; itself, if none has any."""
    group_agents = (base.agents[name] for name in base.group_by_agent[agent.name].agent_names)
    return next((member for member in group_agents if passes_of(member) > 1), agent)


class ReplayedSender:
    """A stack of channels and their senders' windows, which are evaluated again in each minibatch: its messages are leaves there.

    Args:
        first_update: What the senders learned from their windows in the first pass.
    """

    def __init__(
        self, forward_pass: ForwardPass, trainer: PredictorTrainer, channel: Channel, first_update: Update
    ) -> None:
        self.channel, self.first_update, agents = channel, first_update, forward_pass.system.agents
        self._sender, self._receiver = agents[channel.sender], agents[channel.receiver]
        window = first_update.window
        self._evaluation = WindowEvaluation(
            window, {channel.sender: self._sender}, forward_pass, {}, [channel.name]
        )
        self._messages = [message for name, message in window.sent if name == channel.name]
        self._credited = [window.credited_rows(channel, message) for message in self._messages]
        self._wholes = [trainer.example(channel, message, with_returned=False) for message in self._messages]
        """What the predictions of the first pass are conditioned on; None: a signal of it is absent."""
        masks = [
            NONE if whole is None else rows for whole, rows in zip(self._wholes, self._credited, strict=True)
        ]
        self._injected = ALL
        if any(mask is not ALL for mask in masks):
            count, device = len(channel.content.zeros), channel.content.zeros.device
            self._injected = Mask.of(torch.stack([mask.tensor(count, device) for mask in masks]))
        self._noise = link_noise(channel, [message.stamp for message in self._messages])
        self._examples: list[Example] = []
        self._output = self.read = self._rows = torch.zeros(0)
        """The channels' rows of the newest minibatch."""

    def send_again(self, rows: Mapping[str, Tensor]) -> dict[tuple[str, int], InStack]:
        """Return the messages of the present parameters as they are received, places of a leaf, by channel and stamp."""
        channel, endpoints = self.channel, self.channel.endpoints
        own = rows[channel.receiver], endpoints.receiver_index, len(self._receiver.members)
        of_sender = self._rows = rows_through(*own, channel.batch)
        if endpoints.sender_index is not None:  # those of a sender without a channel are any
            environments = of_sender.view(len(channel.members), -1) % channel.batch
            every = environments[:1].repeat(len(self._sender.members), 1)
            every = every.index_copy(0, endpoints.sender_index, environments)
            of_sender = rows_through(every.flatten(), None, len(every), channel.batch)
        this_pass = self._evaluation.evaluate({channel.sender: of_sender})
        self._output = at_places([this_pass.sent[channel.name, message.stamp] for message in self._messages])
        values = constant(self._output).flatten(2)
        self.read = as_leaf(received(channel, values, self._noise, self._rows))
        self._examples = [
            Example(
                value,
                None if whole is None or whole.context is None else whole.context[self._rows],
                None,
                NONE if whole is None else chosen(message.counted, self._rows),
                stamp=message.stamp,
            )
            for value, whole, message in zip(values.unbind(), self._wholes, self._messages, strict=True)
        ]
        return {
            (channel.name, message.stamp): (self.read, place) for place, message in enumerate(self._messages)
        }

    def request(self, step: int) -> BackwardRequest | None:
        """Return the backward pass of the credit for the newest minibatch; None: there is none."""
        channel, members = self.channel, len(self.channel.members)
        credits = []
        for example in self._examples:
            # no gradient of these messages has returned yet
            predict = partial(self._predict, example)
            message = example.message, example.stamp, example.message, predict
            credits.append(coupling_credit(channel, step, *message))
        like = next((credit for credit in credits if credit is not None), None)
        if like is None:
            return None
        every = [torch.zeros_like(like) if credit is None else credit for credit in credits]
        rows = self._injected.map(partial(in_rows, members=members, rows=self._rows))
        output, credit = in_rows(self._output, members), in_rows(torch.stack(every), members)
        return BackwardRequest(
            injections=[channel.injection_of(output, credit, rows)],
            parameters={self._sender.name: self._sender.learner.trainable},
        )

    def _predict(self, example: Example) -> Tensor | None:
        """The present prediction for a message of the newest minibatch, which is evaluated once."""
        model = self.channel.synthetic_gradient.model
        assert model is not None
        if example.prediction is None:
            example.prediction = model.predict(example)
        return example.prediction

    def update(self, gradients: Mapping[str, Gradients]) -> Update:
        """Return what the senders learn from the newest minibatch."""
        first, model = self.first_update, self.channel.synthetic_gradient.model
        assert model is not None
        is_open = self.channel.layout.rows_of(model.open)
        injected = {
            (self.channel.name, message.stamp): rows & is_open
            for message, rows in zip(self._messages, self._credited, strict=True)
        }
        return Update(
            first.group,
            first.window,
            gradients_by_learner=first.group.mean_over_agents(gradients),
            injected_rows=injected,
        )

    def examples(self, returned: Tensor | None) -> list[Example]:
        """Return what the predictors learn from in the newest minibatch; none, if nothing counts.

        Args:
            returned: Gradients at the leaf, [T, K * b, size] per sample; None: the loss does not depend on it.
        """
        gradients: Iterable[Tensor] = torch.zeros_like(self.read) if returned is None else returned
        for example, gradient in zip(self._examples, gradients, strict=True):
            example.returned = example.valid.zero_elsewhere(gradient)
            self.channel.restrict_example(example, example.valid)
        return [example for example in self._examples if example.valid.anywhere]


# --- windows of earlier ------------------------------------------------------------------------------------


class DrawnWindows:
    """Windows drawn from the buffer of a stack, to which its newest window is added first; each environment draws its own.

    Args:
        seeds: [N] int64, of what each member draws.
    """

    def __init__(
        self, window: Window, agent: Agent, policy: PolicyWindow, forward_pass: ForwardPass, seeds: Tensor
    ) -> None:
        self._agent = agent
        assert isinstance(agent.policy, QLearning)
        self._objective = agent.policy
        newest = _contents(window, agent, policy, forward_pass)
        self._buffer = agent.kept.replay_buffer or ReplayBuffer.like(newest, self._objective.replay)
        has_valid_ticks = agent.layout.sum_by_member((~newest["unseen"]).any(1)) > 0
        self._buffer.add(newest, agent.layout.rows_from_members(has_valid_ticks))
        agent.kept.replay_buffer = self._buffer
        numbers = uniform_many(seeds, policy.ticks[-1].step, self._objective.epochs * agent.batch)
        self._numbers = numbers.view(len(seeds), -1, agent.batch).transpose(0, 1).flatten(1)

    def slopes(self, rows: Mapping[str, Tensor], epoch: int) -> Slopes:
        """Return what is learned in a minibatch: another window of each row is drawn in each pass, and returns are by the present parameters."""
        drawn = self._buffer.drawn(rows[self._agent.name], self._numbers[epoch])
        learner, objective, members = self._agent.learner, self._objective, len(self._agent.members)
        x = drawn["inputs"].transpose(0, 1)
        of_ticks = learner.buffers, x.flatten(0, 1)
        outputs, target = (
            values.view(*x.shape[:2], -1).transpose(0, 1)
            for values in (
                learner.evaluate(*of_ticks)[0][OBJECTIVE],
                learner.target_outputs(*of_ticks, state=None),
            )
        )
        nowhere = torch.zeros_like(drawn["terminated"])
        trajectory = Trajectory(
            drawn["actions"],
            drawn["rewards"],
            drawn["terminated"],
            truncated=nowhere,
            unseen=drawn["unseen"],
            bootstrapped=nowhere,
            final_values=None,
            waiting=drawn["waiting"],
        )
        statistics = learner.buffers.get(RETURNS)
        advantages = objective.advantages(
            trajectory,
            QLearning.value(constant(outputs), target),
            member_count=members,
            statistics=None if statistics is None else statistics.view(members, -1),
            counted=False,
        )
        assert self._agent.goal is not None
        ports = PolicyPorts(outputs, None, member_count=members)
        every = torch.arange(outputs.shape[1], device=outputs.device)
        (constants,) = PassConstants.of_parts(
            trajectory.actions, None, advantages, self._agent.goal.weight, members, [every]
        )
        return objective.slopes(ports, constants)[0]


def _contents(window: Window, agent: Agent, policy: PolicyWindow, forward_pass: ForwardPass) -> Tensors:
    """What a buffer keeps of a window, [rows, T, …] by name.

    A tick whose episode was truncated is unseen: its final observation is not kept.
    """
    trajectory, start = policy.trajectory, window.statistics_before[agent.name]
    assert trajectory.actions is not None
    with torch.no_grad():
        inputs = torch.stack([forward_pass.joined_input(tick, window, start) for tick in policy.ticks])
    unseen = ~policy.advantages.valid | trajectory.bootstrapped
    waiting = torch.zeros_like(unseen) if trajectory.waiting is None else trajectory.waiting
    contents = {
        "inputs": inputs,
        "actions": trajectory.actions,
        "rewards": trajectory.rewards,
        "terminated": trajectory.terminated,
        "unseen": unseen,
        "waiting": waiting,
    }
    return {name: values.transpose(0, 1) for name, values in contents.items()}
