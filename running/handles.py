"""Handles of a running simulation: its agents and channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from antiphon.base.errors import ScenarioError, suggest
from antiphon.comms.links import Link
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Received, Sent
from antiphon.engine.inference.exporting import AgentModule
from antiphon.nets.mask import NONE, Mask
from antiphon.nets.trained_parameters import TrainedParameters
from antiphon.telemetry.history import History

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem


class ModelHandle:
    """The tensors of an agent's network, or of a channel's synthetic gradient or input: the live ones, not copies."""

    __slots__ = ("_present",)

    def __init__(self, model: Callable[[], Any]) -> None:
        self._present: Callable[[], TrainedParameters] = model

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Parameters by name; change them in place, under `torch.no_grad`, where a window ends: an open one has read the former ones."""
        return dict(self._present().parameters)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Buffers by name, such as the running statistics of normalisation: those of now, which a step replaces."""
        return dict(self._present().buffers)

    @property
    def optimiser(self) -> dict[str, tuple[Tensor, ...]]:
        """State of the optimiser, a tensor for each parameter, by name, such as the moments of Adam (`mean`, `square`)."""
        return {name: tuple(tensors) for name, tensors in self._present().optimiser.state.items()}

    @property
    def updates(self) -> int:
        """Optimiser steps taken."""
        return self._present().updates


class AgentHandle(ModelHandle):
    """One agent of a running simulation, to be read; settings are changed with `Simulation.set`."""

    __slots__ = ("name",)

    def __init__(self, name: str, running: LiveSystem) -> None:
        super().__init__(lambda: running.system.agents[name].learner)
        self.name = name

    @property
    def module(self) -> nn.Module:
        """Its network as a plain torch module in evaluation mode, with copies of its parameters.

        It takes [batch, *input] and returns {port: [batch, …]}.
        """
        learner: Any = self._present()
        return AgentModule(learner.network, learner.parameters, learner.buffers)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelMessage:
    """A message that its channel still holds: the value sent, and the gradient returned so far.

    Attributes:
        value: [batch, size], as sent.
        received: [batch, size], as it arrives, after the link's noise and quantisation.
        gradient: [batch, size]: the receiver's gradient, summed over the uses that count; None: none has been returned.
        loss: [batch]: the receiver's loss in the windows that used it, if the channel needs it.
        complete: Whether the gradient is complete: every receiver window that could use the message has closed, and one
            has used it.
        finished: The step at which the last of those windows closed; None: one is open, or there are none.
        counted: [batch] bool: the environments in which a use counts.
        void: [batch] bool: the environments whose episode has ended since.
        injects: [batch] bool: the environments in which a synthetic gradient replaces the gradient until it is complete.
    """

    stamp: int
    value: Tensor
    received: Tensor
    gradient: Tensor | None
    loss: Tensor | None
    complete: bool
    finished: int | None
    counted: Tensor
    void: Tensor
    injects: Tensor

    @classmethod
    def of(cls, sent: Sent, received: Received | None, link: Link) -> ChannelMessage:
        def mask(where: Mask) -> Tensor:
            return where.tensor(len(sent.value), sent.value.device).clone()

        booked = sent if sent.finished_at is not None or received is None else received

        return cls(
            stamp=sent.stamp,
            value=sent.value,
            received=link.carry(sent.stamp, sent.value),
            gradient=sent.returned if received is None or sent.returned is not None else received.gradient,
            loss=booked.loss,
            complete=sent.finished_at is not None and sent.counted is not NONE,
            finished=sent.finished_at if sent.plan.is_bookable else None,
            counted=mask(booked.counted),
            void=mask(sent.void),
            injects=mask(sent.creditable),
        )


class ChannelHandle:
    """One channel of a running simulation. The state of a recurrent agent is the channel `AGENT->AGENT:state`."""

    def __init__(self, name: str, running: LiveSystem, history: Callable[[], History]) -> None:
        self.name, self._running, self._history = name, running, history

    @property
    def _channel(self) -> Channel:
        return self._running.system.channels[self.name]

    @property
    def synthetic_gradient(self) -> ModelHandle | None:
        """The predictor of the gradient that the receiver will return; None: the channel has none."""
        return self._handle(lambda channel: channel.synthetic_gradient.model)

    @property
    def synthetic_input(self) -> ModelHandle | None:
        """The predictor of the message that the sender will send; None: the channel has none."""
        return self._handle(lambda channel: channel.synthetic_input.model)

    def _handle(self, of: Callable[[Channel], TrainedParameters | None]) -> ModelHandle | None:
        return None if of(self._channel) is None else ModelHandle(lambda: of(self._channel))

    @property
    def messages(self) -> dict[int, ChannelMessage]:
        """The messages that the channel still holds, by the step at which they were sent, oldest first."""
        wire = self._channel.wire
        received = wire.inbox.messages
        return {
            stamp: ChannelMessage.of(sent, received.get(stamp), wire.link)
            for stamp, sent in wire.outbox.sent.items()
        }

    def metrics(self) -> dict[str, float]:
        """Return its newest logged metrics by name (docs/telemetry.md)."""
        return {row.metric: row.value for row in self._history() if row.name == self.name}


T = TypeVar("T")


class Named(dict[str, T]):
    """Agents or channels by name; `heading` is `agent` or `channel`, for the error message."""

    def __init__(self, heading: str, handles: Mapping[str, T]) -> None:
        super().__init__(handles)
        self._heading = heading

    def __missing__(self, name: str) -> T:
        raise ScenarioError(f"{self._heading}s: no {self._heading} '{name}'{suggest(name, self)}")
