"""Messages of a window that are sent again in the rows of a minibatch: by parameters that have moved, with the noise of then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.window import Tick
from antiphon.engine.policies.minibatch_rows import by_member


@dataclass(frozen=True, slots=True)
class ResentMessages:
    """The messages of a stack of channels that are sent again, S of each channel, from an evaluation of their senders."""

    channel: Channel
    tick_count: int
    """T, the ticks of the evaluation."""
    sent_at: Tensor | None
    """[S]: which of these ticks make them, in order; None: all."""
    samples: Tensor | None
    """[S, K * B, size]: what was sampled; None: the port's output is sent."""
    sampling_noise: Tensor | None
    """[S, K * B, …]: what it was sampled with."""
    link_noise: Tensor | None
    """[S, K * B, size]: what the link adds."""

    @classmethod
    def of(
        cls, channel: Channel, sender: Agent, ticks: Sequence[Tick], stamps: Sequence[int]
    ) -> ResentMessages:
        """Return the messages of some stamps, in order, that an evaluation of the senders' ticks makes again."""
        index_by_step = {tick.step: k for k, tick in enumerate(ticks)}
        sampler, zeros = channel.content.sampler, channel.content.zeros
        samples, sampling_noise = list[Tensor](), list[Tensor | None]()
        if sampler is not None:
            shape = sender.learner.network.port_shape(channel.content.port_name)
            port = zeros.new_empty(len(zeros), *shape)
            samples = [ticks[index_by_step[stamp]].sampled_messages[channel.name] for stamp in stamps]
            sampling_noise = [sampler.noise(port, stamp) for stamp in stamps]
        sent_at = None
        if len(stamps) < len(ticks):
            sent_at = torch.tensor([index_by_step[stamp] for stamp in stamps], device=zeros.device)
        return cls(
            channel,
            len(ticks),
            sent_at,
            torch.stack(samples) if samples else None,
            _stacked(sampling_noise),
            _stacked([channel.wire.link.noise_of(stamp, zeros) for stamp in stamps]),
        )

    def outputs(self, port: Tensor, rows: Tensor) -> Tensor:
        """Return them as they are sent, with the senders' graph, [K * S * b, size].

        Args:
            port: The senders' port, [N * T * b, …].
            rows: The channels' rows, [K * b].
        """
        channel, batch = self.channel, len(rows) // len(self.channel.members)
        if self.sent_at is not None:
            by_tick = port.view(-1, self.tick_count, batch, *port.shape[1:])
            port = by_tick.index_select(1, self.sent_at).flatten(0, 2)
        output = channel.output_from_port(port)
        if channel.content.sampler is not None:
            noise, samples = self._rows(self.sampling_noise, rows), self._rows(self.samples, rows)
            output, _ = channel.content.sampler.message(output, noise, samples)
        return output.flatten(1)

    def received(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return `outputs` as the link carries them, of the same shape."""
        return self.channel.wire.link.received(outputs, self._rows(self.link_noise, rows))

    def _rows(self, values: Tensor | None, rows: Tensor) -> Tensor | None:
        return None if values is None else by_member(values, len(self.channel.members), rows)


def _stacked(noises: Sequence[Tensor | None]) -> Tensor | None:
    """[S, …] of the noises of S steps; None: there is none at any."""
    present = [noise for noise in noises if noise is not None]
    return torch.stack(present) if present else None
