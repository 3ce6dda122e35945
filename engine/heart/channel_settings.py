"""Settings of a channel beside its coupling and its wire: predictors, injection, endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from antiphon.comms.endpoint_values import ENDPOINT_VALUES
from antiphon.comms.examples import ContextSpec, Example
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.layout import SenderRows
from antiphon.nets.per_member import PerMember
from antiphon.nets.schedules import Rate

if TYPE_CHECKING:  # what may be plugged into a channel
    from antiphon.comms.predictors import Predictor
    from antiphon.comms.synthetic_inputs import InputModel

_ONE = Rate(base=1.0, run_steps=1)


@dataclass(frozen=True, slots=True, eq=False)
class PredictorContext:
    """What a predictor is conditioned on, beside the message; by default nothing."""

    signal_specs: tuple[ContextSpec, ...] = ()
    endpoint_values: Mapping[str, WindowGrid | None] = field(default_factory=dict)
    """Values of the channel's ends, by name (comms/endpoint_values.py); with a phase's, the windows it is a place in."""

    @property
    def crossing(self) -> str | None:
        """The first of these values that crosses the link by itself; None: none does."""
        return next((name for name in self.endpoint_values if ENDPOINT_VALUES[name].crosses), None)


@dataclass(frozen=True, slots=True, eq=False)
class InjectionSettings:
    """How the synthetic gradient of a channel is injected into its messages."""

    apply: bool = True
    """Whether it is injected; else it is only trained. A scale of 0 may be a schedule's or a probe's, for a time."""
    scale: Rate = _ONE
    """What an injection is multiplied by in the gradients of the sender's parameters, by step."""
    discount: PerMember = 1.0
    """The factor of an injection in the gradients that the sender returns: credit shrinks at each channel it
    crosses."""
    clip: PerMember | None = None
    """The longest credit, a norm over the components of one message in one environment; None: any."""


@dataclass(slots=True, eq=False)
class SyntheticGradient:
    """The synthetic gradient of a channel: what predicts it, from what, and how it is injected."""

    model: Predictor | None = None
    """Stacked for several channels; None: the channel has none."""
    context: PredictorContext = field(default_factory=PredictorContext)
    target_signal_name: str | None = None
    """The target signal of a predictor with a loss of its own (`local`); None: it regresses returned gradients."""
    injection: InjectionSettings = field(default_factory=InjectionSettings)
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
    """Where the endpoints of a stack's channels are in the stacks of agents.

    Nothing has a default: a single channel and a stack, which the builder makes anew, each say all of it.
    """

    sender_index: Tensor | None
    """[K]: the index of each channel's sender in the stack of senders; None: channel k has sender k."""
    receiver_index: Tensor | None
    """[K]: the same, of receivers."""
    sender_count: int
    sender_rows: SenderRows | None
    """Selects this stack's rows of the sender's port, where it is a piece of a divided stack; None: it is no piece."""

    @classmethod
    def single(cls) -> Endpoints:
        """Return those of a single channel, of single agents."""
        return cls(sender_index=None, receiver_index=None, sender_count=1, sender_rows=None)


@dataclass(frozen=True, slots=True, eq=False)
class VoidingSignals:
    """Which signals void the messages of a single channel; a stack asks its members."""

    life_names: tuple[str, str] = ("", "")
    """The names of the lives of the sender and the receiver (`Body.life_name`); "": the environment's episodes."""
    mask_name: str = ""
    """The signal that is 0 or less where a message is void as it is sent; empty: it has none."""
