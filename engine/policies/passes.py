"""Further passes over a window: what `ppo` learns from it after the first one (Schulman et al. 2017, algorithm 1).

The first pass is that of every window: senders, synthetic gradients and critics of channels learn in it. Where no tick needs another,
it is evaluated for all ticks at once, as further passes are (semantics 42c). These, over minibatches of environments, move the
parameters of the agent's learning group alone, and those of senders that are replayed beside it (42b): a sender that takes one step a
window for the receiver's dozens follows it too slowly. An agent with a replay buffer learns from windows of it in place of the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.agents.policy_objectives import PolicyObjective
from antiphon.agents.policy_passes import PassConstants
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.base.problems import DocumentError
from antiphon.comms.backward_requests import BackwardRequest, Gradients, Slopes, as_leaf, constant
from antiphon.comms.examples import Example
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.backward import coupling_credit, credited_message
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate, StepUpdates, Update, WindowLoss
from antiphon.engine.heart.window import LearningGroup, Window
from antiphon.engine.policies.evaluation import (
    InStack,
    Pass,
    WindowEvaluation,
    at_places,
    chosen,
    in_rows,
    link_noise,
    received,
    rows_through,
)
from antiphon.engine.policies.policy_window import (
    PolicyWindow,
    PolicyWindows,
    policy_ports,
    policy_windows,
    port_names,
)
from antiphon.engine.policies.replay_buffer import DrawnWindows
from antiphon.nets.random import seed_for, uniform_many


def passes_of(agent: Agent) -> int:
    """Return the passes of an agent's policy over a window; 0: it has no policy."""
    return 0 if agent.policy is None else agent.policy.epochs


def evaluated_at_once(agent: Agent) -> bool:
    """Return whether nothing but further passes needs the graph of an agent's ticks, and no tick needs the one before.

    It has neither messages nor a state, and the rows of its ticks do not depend on each other.
    """
    connections, network = agent.connections, agent.learner.network
    return (
        passes_of(agent) > 1
        and not agent.inputs.has_target_network
        and not (connections.read_channels or connections.send_channels)
        and network.row_split_obstacle() is None
        and not network.buffers()
    )


@dataclass(slots=True)
class _WindowPasses:
    """A window with further passes.

    Attributes:
        update: What its first pass learned.
        loss: The losses of the first pass of agents with further ones.
        evaluation: Of the window, or what draws windows of a buffer in its place.
        orders: By agent, the rows of each minibatch.
        constants: By policy, those of each minibatch.
    """

    update: Update
    loss: WindowLoss
    policy: PolicyObjective
    evaluation: WindowEvaluation | DrawnWindows
    senders: list[ReplayedSender]
    orders: dict[str, list[Tensor]]
    constants: dict[str, list[PassConstants]]


class FurtherPasses(Feature):
    """Makes the further passes over the windows that end at a step, in the same order for all groups."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.system = engine, engine.system
        self.agents = {name for name, agent in self.system.agents.items() if passes_of(agent) > 1}
        self._seeds = {
            agent.name: [
                _leader(engine.single_systems[agent.layout.seed_of(n)], member).random_seed
                for n, member in enumerate(agent.members)
            ]
            for agent in self.system.agents.values()
        }
        """By stack: of each member, the seed of the first agent with further passes that it learns with."""
        self._seeds_by_uses: dict[tuple[object, ...], Tensor] = {}
        self._at_once = {
            group
            for group in self.system.groups
            if all(evaluated_at_once(self.system.agents[name]) for name in group.agent_names)
        }
        engine.forward_pass.keep_no_graph(name for group in self._at_once for name in group.agent_names)
        self._first: dict[LearningGroup, tuple[Window, WindowEvaluation, Pass]] = {}
        """The first pass over the newest window of each group that is evaluated at once, until the further passes."""
        for channel in self.system.channels.values():
            if channel.synthetic_gradient.replayed:
                _check_replayable(channel, self.system)

    def window_ports(self, agent: Agent, window: Window) -> Tensors | None:
        """Return the ports of the first pass at all ticks, [T, rows, …], where it is evaluated at once; None: its ticks have them."""
        group = self.system.group_by_agent[agent.name]
        if group not in self._at_once:
            return None
        if group not in self._first or self._first[group][0] is not window:
            evaluation = self._evaluation(group, window)
            self._first[group] = window, evaluation, evaluation.again()
        return self._first[group][2].ports[agent.name]

    def _evaluation(self, group: LearningGroup, window: Window) -> WindowEvaluation:
        agents = {name: self.system.agents[name] for name in group.agent_names}
        asked = {name: port_names(agent) for name, agent in agents.items() if name in self.agents}
        return WindowEvaluation(window, agents, self.engine.forward_pass, asked)

    def after_move(self, updates: StepUpdates, step: int) -> None:
        """Take all further passes over the windows of each turn, and move the parameters after each."""
        for turn in updates.turns:
            windows = [
                self._window(update, turn, step)
                for update in turn
                if not self.agents.isdisjoint(policy_windows(update.window_loss))
            ]
            for epoch in range(1, max((window.policy.epochs for window in windows), default=1)):
                windows_of_epoch = [window for window in windows if window.policy.epochs > epoch]
                for k in range(max(window.policy.minibatches for window in windows_of_epoch)):
                    learned, predictors = list[Update](), dict[str, PredictorUpdate]()
                    for window in windows_of_epoch:
                        if k < window.policy.minibatches:
                            self._learn(window, epoch, k, step, learned, predictors)
                    self.engine.finish_gradients(learned, step)
                    of_minibatch = StepUpdates([learned], [*predictors.items()])
                    self.engine.moving.check_predictors(of_minibatch, step)
                    self.engine.moving.move(of_minibatch, step, further=True)

    def _window(self, update: Update, first_passes: Sequence[Update], step: int) -> _WindowPasses:
        first = update.window_loss
        own = {name: window for name, window in policy_windows(first).items() if name in self.agents}
        loss = WindowLoss(
            reported_loss_by_agent={name: first.reported_loss_by_agent[name] for name in own},
            ticks_with_loss={(at, name) for at, name in first.ticks_with_loss if name in own},
            notes={PolicyWindows: PolicyWindows(own)},
        )
        agents = {name: self.system.agents[name] for name in update.group.agent_names}
        leader = agents[next(iter(own))]
        policy = leader.policy
        assert policy is not None
        orders = {name: self._order(agent, policy, step) for name, agent in agents.items()}
        constants = {name: _constants(agents[name], window, orders[name]) for name, window in own.items()}
        if policy.windows_kept > 1:  # it learns alone
            (seeds,) = self._seeds_of(leader.name, [("replay",)])
            drawn = DrawnWindows(update.window, leader, own[leader.name], self.engine.forward_pass, seeds)
            return _WindowPasses(update, loss, policy, drawn, [], orders, constants)
        update_by_agent = {name: one for one in first_passes for name in one.group.agent_names}
        senders = [
            ReplayedSender(self.engine, channel, update_by_agent[channel.sender])
            for agent in agents.values()
            for channel in agent.connections.incoming
            if channel.synthetic_gradient.replayed
        ]
        at_once = self._first.pop(update.group, None)
        evaluation = self._evaluation(update.group, update.window) if at_once is None else at_once[1]
        return _WindowPasses(update, loss, policy, evaluation, senders, orders, constants)

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
            this_pass = window.evaluation.again(
                rows, {key: leaf for own in leaves for key, leaf in own.items()}
            )
            slopes = [
                self._slopes(
                    agents[name], own, rows[name], this_pass.ports[name], window.constants[name][index]
                )
                for name, own in policy_windows(window.loss).items()
            ]
        name = next(iter(policy_windows(window.loss)))
        requests = [
            BackwardRequest(
                slopes=[*chain.from_iterable(slopes)],
                parameters={
                    learner: agents[learner].learner.trainable for learner in update.gradients_by_learner
                },
                values_read=[sender.read for sender in window.senders],
            )
        ]
        sender_requests = [(sender, own) for sender in window.senders if (own := sender.request(step))]
        of_windows = [update, *(sender.first_update for sender, _ in sender_requests)]
        (gradients, returned), *of_senders = self.engine.backward_pass.gradients(
            [(one.group, one.window) for one in of_windows],
            [*requests, *(request for _, request in sender_requests)],
            len(rows[name]) // len(agents[name].members),
            *(str(step), str(epoch), str(k)),
        )
        learned.append(Update(update.group, update.window, window.loss, {**gradients}))
        for (sender, _), (of_sender, _) in zip(sender_requests, of_senders, strict=True):
            learned.append(sender.update(of_sender))
        trainer = self.engine.predictor_trainer
        examples = {
            sender.channel.name: sender.examples(gradient)
            for sender, gradient in zip(window.senders, returned, strict=True)
            if trainer.learns(sender.channel)
        }
        predictors |= trainer.differentiate_predictors(examples, further=True)

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

    def __init__(self, engine: Engine, channel: Channel, first_update: Update) -> None:
        self.channel, self.first_update = channel, first_update
        self._sender, self._receiver = (
            engine.system.agents[channel.sender],
            engine.system.agents[channel.receiver],
        )
        window = first_update.window
        self._evaluation = WindowEvaluation(
            window, {channel.sender: self._sender}, engine.forward_pass, {}, [channel.name]
        )
        self._messages = [message for name, message in window.sent if name == channel.name]
        self._credited = [window.credited_rows(channel, message) for message in self._messages]
        self._wholes = [
            engine.predictor_trainer.example(channel, message, with_returned=False)
            for message in self._messages
        ]
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
        this_pass = self._evaluation.again({channel.sender: of_sender})
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
            message = credited_message(
                channel,
                *(example.message, example.stamp, example.message, partial(self._predict, example)),
                returned=None,
                counted=NONE,
                has_returned=False,
            )
            credits.append(coupling_credit(channel, message, step))
        like = next((credit for credit in credits if credit is not None), None)
        if like is None:
            return None
        every = [torch.zeros_like(like) if credit is None else credit for credit in credits]
        rows = self._injected.map(partial(in_rows, members=members, rows=self._rows))
        output, credit = in_rows(self._output, members), in_rows(torch.stack(every), members)
        return BackwardRequest(
            injections=[channel.injection_of(output, credit, rows, step)],
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
        return Update(first.group, first.window, gradients_by_learner={**gradients}, injected_rows=injected)

    def examples(self, returned: Tensor | None) -> list[Example]:
        """Return what the predictors learn from in the newest minibatch; none, if nothing counts.

        Args:
            returned: Gradients at the leaf, [T, K * b, size] per sample; None: the loss does not depend on it.
        """
        gradients: Iterable[Tensor] = torch.zeros_like(self.read) if returned is None else returned
        for example, gradient in zip(self._examples, gradients, strict=True):
            example.returned = self.channel.as_returned(gradient, example.valid)
            self.channel.restrict_example(example, example.valid)
        return [example for example in self._examples if example.valid.anywhere]
