"""Channels at run time: stacks of K >= 1 channels of one kind between two stacks of agents (agent.py).

A stack's rows are (channel, environment), [K * B], in the order of the senders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.comms.backward_requests import Injection
from antiphon.comms.couplings import Coupling
from antiphon.comms.endpoint_values import ENDPOINT_VALUES
from antiphon.comms.examples import ContextSpec, Example
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.ends import Content, Sent, Wire
from antiphon.engine.heart.layout import Layout, SenderRows, select_rows
from antiphon.engine.heart.signals import EpisodeEnds, StepSignals
from antiphon.envs.signal import ALIVE
from antiphon.nets import indexed
from antiphon.nets.mask import ALL, NONE, Mask, simplified
from antiphon.nets.per_member import PerMember

if TYPE_CHECKING:  # what may be plugged into a channel
    from antiphon.comms.predictors import Predictor
    from antiphon.comms.synthetic_inputs import InputModel


@dataclass(frozen=True, slots=True, eq=False)
class PredictorContext:
    """What a predictor is conditioned on, beside the message; by default nothing."""

    signal_specs: tuple[ContextSpec, ...] = ()
    endpoint_values: Mapping[str, WindowGrid | None] = field(default_factory=dict)
    """Values of the channel's ends, by name (comms/endpoint_values.py); with a phase's, the windows it is a place in."""
    columns: Tensor | None = None
    """Of a stack whose members see other signals: the columns of all these that each of one seed sees, [K, C]."""

    def features(
        self, signals: StepSignals, of_ends: Iterable[Tensor], layout: Layout, dtype: torch.dtype
    ) -> Tensor | None:
        """Return what the predictor is shown of a message's signals, and of the channel's ends, [rows, features]; None: nothing."""
        columns, encoded = [*of_ends], signals.context_features(self.signal_specs, dtype)
        if encoded is not None and self.columns is not None:
            by_seed = encoded.view(layout.seed_count, layout.batch, -1)
            columns.insert(0, by_seed[..., self.columns].transpose(1, 2).flatten(0, 2))
        elif encoded is not None:
            columns.insert(0, layout.to_rows(encoded))
        if not columns:
            return None
        return columns[0] if len(columns) == 1 else torch.cat(columns, 1)

    @property
    def crossing(self) -> str | None:
        """The first of these values that crosses the link by itself; None: none does."""
        return next((name for name in self.endpoint_values if ENDPOINT_VALUES[name].crosses), None)


@dataclass(slots=True, eq=False)
class SyntheticGradient:
    """The synthetic gradient of a channel: what predicts it, from what, and how it is injected."""

    model: Predictor | None = None
    """Stacked for several channels; None: the channel has none."""
    context: PredictorContext = field(default_factory=PredictorContext)
    target_signal_name: str | None = None
    """The target signal of a predictor with a loss of its own (`local`); None: it regresses returned gradients."""
    injected: bool = True
    """Whether it is injected into the channel's messages; else it is only trained."""
    scale: PerMember = 1.0
    """What an injection is multiplied by in the gradients of the sender's parameters."""
    discount: PerMember = 1.0
    """The factor of an injection in the gradients that the sender returns: credit shrinks at each channel it
    crosses."""
    auxiliary: float = 0.0
    """Of a state channel: the weight of the auxiliary task to predict the synthetic gradient of the window's end (rule 12)."""
    replayed: bool = False
    """Whether it is injected, and learns, in the further passes of the receiver's policy too."""


@dataclass(slots=True, eq=False)
class SyntheticInput:
    """The synthetic input of a channel: what predicts the message for the receiver, and from what."""

    model: InputModel | None = None
    """Stacked for several channels; None: the channel has none."""
    context: PredictorContext = field(default_factory=PredictorContext)
    examples: list[Example] = field(default_factory=list)

    def pop_examples(self) -> list[Example]:
        """Return the examples that it learns from at the end of the step, and empty them."""
        examples, self.examples = self.examples, []
        return examples


@dataclass(slots=True, eq=False)
class Endpoints:
    """Where the endpoints of a stack's channels are in the stacks of agents; by default those of a single channel."""

    sender_index: Tensor | None = None
    """[K]: the index of each channel's sender in the stack of senders; None: channel k has sender k."""
    receiver_index: Tensor | None = None
    """[K]: the same, of receivers."""
    sender_count: int = 1
    sender_rows: SenderRows | None = None
    """Selects this stack's rows of the sender's port, where it is a piece of a divided stack; None: it is no piece."""


# --- the channel -------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Channel:
    """A stack of K >= 1 channels of a scenario."""

    name: str
    sender: str
    receiver: str
    content: Content
    coupling: Coupling
    wire: Wire
    synthetic_gradient: SyntheticGradient = field(default_factory=SyntheticGradient)
    synthetic_input: SyntheticInput = field(default_factory=SyntheticInput)
    endpoints: Endpoints = field(default_factory=Endpoints)
    life_names: tuple[str, str] = ("", "")
    """Of a single channel: the lives of sender and receiver (`Agent.life_name`); "": the environment's episodes."""
    mask_name: str = ""
    """Of a single channel: the signal that is 0 or less where a message is void as it is sent; empty: it has none."""
    layout: Layout = field(default_factory=Layout)
    members: tuple[Channel, ...] = ()
    """The single channels that the stack is made of; a single channel has itself."""

    def __post_init__(self) -> None:
        if not self.members:
            self.members = (self,)

    @cached_property
    def member_names(self) -> tuple[str, ...]:
        return self.layout.names_in_seeds(member.name for member in self.members)

    # --- rows ----------------------------------------------------------------------------------------------

    @property
    def row_count(self) -> int:
        """K * B, the number of rows of a message."""
        return self.content.zeros.shape[0]

    @property
    def batch(self) -> int:
        """B, the environments of one channel."""
        return self.layout.batch

    @cached_property
    def life_names_by_endpoint(self) -> tuple[tuple[str, ...], ...]:
        """The names of senders' and receivers' lives, by member, where they differ; empty: all are the environment's
        episodes."""
        by_endpoint = dict.fromkeys(zip(*(member.life_names for member in self.members), strict=True))
        return tuple(life_names for life_names in by_endpoint if any(life_names))

    @cached_property
    def mask_signal_names(self) -> tuple[str, ...]:
        """The signals that are masks of its members, each once."""
        return tuple(dict.fromkeys(filter(None, (m.mask_name for m in self.members))))

    @cached_property
    def voiding_signal_names(self) -> tuple[tuple[str, ...], ...]:
        """Signals, by member, that void a message as it is sent where 0 or less: lives of endpoints, and masks."""
        alive = [tuple(name and f"{ALIVE}.{name}" for name in names) for names in self.life_names_by_endpoint]
        masks = tuple(member.mask_name for member in self.members)
        return (*alive, masks) if self.mask_signal_names else tuple(alive)

    def void_when_sent(self, step_signals: StepSignals) -> Mask:
        """Return the rows in which a message is void as sent: an endpoint is dead, or its mask signal 0 or less."""
        if not self.voiding_signal_names:
            return NONE
        void = NONE
        for signal_names in self.voiding_signal_names:
            masks = {name: step_signals.not_positive(name) for name in dict.fromkeys(signal_names)}
            void |= self.layout.mask_by_name(signal_names, masks)
        return simplified(void)

    def terminated_rows(self, ends: EpisodeEnds) -> Mask:
        """Return the rows in which an episode has ended for good, so that no state follows; for channels of states.

        Where the agent's own life is over, its life decides; elsewhere the environment's episode does.
        """
        terminated, layout = ends.terminated.map(self.layout.to_rows), self.layout
        if ends.lives and self.life_names_by_endpoint:
            (life_names,) = self.life_names_by_endpoint  # a state's sender is its receiver
            over = {name: life.over for name, life in ends.lives.items()}
            over_for_good = {name: life.terminated for name, life in ends.lives.items()}
            terminated &= ~layout.mask_by_name(life_names, over)
            terminated |= layout.mask_by_name(life_names, over_for_good)
        return terminated

    @property
    def models(self) -> list[Predictor | InputModel]:
        return [
            model
            for model in (self.synthetic_gradient.model, self.synthetic_input.model)
            if model is not None
        ]

    def output_from_port(self, port: Tensor) -> Tensor:
        """Return the rows of the sender's port that the channel carries, [rows, …]; the port may have any number of each."""
        endpoints = self.endpoints
        if endpoints.sender_rows is not None:
            return endpoints.sender_rows.rows(port, self.name)
        index = endpoints.sender_index
        return port if index is None else select_rows(port, index, port.shape[0] // endpoints.sender_count)

    def measured_rows(self, sent: Sent) -> Mask:
        """Return where measures count a message: where it was sent, and not from the padding of a sequence."""
        return sent.sent_rows & sent.signals.shown.map(self.layout.to_rows)

    def sum_by_sender(self, rows: Tensor) -> Tensor:
        """Return a tensor [rows, …] of the channel, of as many rows of each member, added up by its senders."""
        if (index := self.endpoints.sender_index) is None:
            return rows
        member_rows = rows.view(len(self.members), -1, *rows.shape[1:])
        total = member_rows.new_zeros(self.endpoints.sender_count, *member_rows.shape[1:])
        return indexed.add(total, index, member_rows).flatten(0, 1)

    def mask_from_sender(self, mask: Mask) -> Mask:
        """Return the channel's mask, from a mask of the sender's rows; of a single channel `ALL` or `NONE` where it is."""
        index = self.endpoints.sender_index
        if index is None or mask is ALL:
            return mask
        channel_mask = mask.map(lambda rows: select_rows(rows, index, self.layout.batch))
        if len(self.members) > 1:
            return channel_mask
        return simplified(channel_mask) if channel_mask.anywhere else NONE

    def rows_from_receiver(self, receiver_rows: Tensor) -> Tensor:
        return select_rows(receiver_rows, self.endpoints.receiver_index, self.layout.batch)

    # --- from a credit to an injection ---------------------------------------------------------------------

    def injection_of(self, output: Tensor, credit: Tensor, rows: Mask) -> Injection:
        """Return what is injected for a credit: zeros elsewhere than in `rows`, with its weights.

        Args:
            output: The message with its graph, [rows, …]; or messages of a minibatch, whose rows these are.
            credit: [rows, size] per sample.
            rows: The rows that have credit (`Window.credited_rows`).
        """
        injected = rows.zero_elsewhere(credit)
        if not self.predicts:
            return Injection(output, injected)
        return Injection(output, injected, self.synthetic_gradient.scale, self.synthetic_gradient.discount)

    def restrict_example(self, example: Example, rows: Mask) -> None:
        """Restrict an example to some rows, and to the predictors of the members that have one of them: others take no step."""
        all_members = rows is ALL or not self.layout.has_member_axis
        example.restrict(rows, ALL if all_members else simplified(self.layout.members_in(rows)))

    # --- what follows from its settings --------------------------------------------------------------------

    @cached_property
    def predicts(self) -> bool:
        return self.synthetic_gradient.model is not None

    @cached_property
    def injects_prediction(self) -> bool:
        return self.predicts and self.synthetic_gradient.injected

    @cached_property
    def needs_returned_loss(self) -> bool:
        return self.synthetic_gradient.model is not None and self.synthetic_gradient.model.needs_loss

    @cached_property
    def carries_state(self) -> bool:
        return self.wire.timetable.carries_state
