"""Messages that are sampled, whose log-probabilities their senders' policies learn (docs/semantics.md, rewards)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.base import indexed
from antiphon.base.mask import Mask
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.window import Tick
from antiphon.engine.policies.evaluation import rows_through


@dataclass(frozen=True, slots=True)
class SampledMessages:
    """A stack of channels whose messages are sampled and learned by their senders' policies.

    Attributes:
        counted: [K] bool: the first channel of each port, which all its channels carry; None: every channel.
    """

    channel: Channel
    counted: Tensor | None

    def log_probs(
        self, ports: Tensors, ticks: Sequence[Tick], rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of what was sent, [T, rows] of the sender each; 0 where nothing was.

        Args:
            ports: Of the sender, [T, rows, …] with their graph.
            rows: The sender's rows that `ports` are of, as many of each member; None: all.
        """
        channel, sampler = self.channel, self.channel.content.sampler
        assert sampler is not None
        endpoints = channel.endpoints
        batch = channel.batch if rows is None else len(rows) // endpoints.sender_count
        channel_rows = None
        if rows is not None:
            channel_rows = rows_through(rows, endpoints.sender_index, endpoints.sender_count, channel.batch)
        log_probs, entropies = list[Tensor](), list[Tensor]()
        for output, tick in zip(ports[channel.content.port_name], ticks, strict=True):
            message = tick.sampled_messages.get(channel.name)
            if message is None:
                log_probs.append(output.new_zeros(len(output)))
                entropies.append(output.new_zeros(len(output)))
                continue
            carried = channel.output_from_port(output)
            message = message if channel_rows is None else message[channel_rows]
            log_probs.append(self._sum_by_sender(sampler.log_prob(carried, message), batch))
            entropies.append(self._sum_by_sender(sampler.entropy(carried), batch))
        return torch.stack(log_probs), torch.stack(entropies)

    def _sum_by_sender(self, values: Tensor, batch: int) -> Tensor:
        """Values of the channels' rows as their senders', once for each port."""
        by_channel = values.view(-1, batch)
        if self.counted is not None:
            by_channel = Mask.of(self.counted).zero_elsewhere(by_channel)
        if self.channel.endpoints.sender_index is None:
            return by_channel.flatten()
        sums = by_channel.new_zeros(self.channel.endpoints.sender_count, batch)
        return indexed.add(sums, self.channel.endpoints.sender_index, by_channel).flatten()


def sampled_messages_of(agent: Agent) -> list[SampledMessages]:
    """Return the channels whose sampled messages a policy learns, each port once."""
    learned = list[SampledMessages]()
    counted_ports = set[tuple[int, str, str]]()
    for channel in agent.connections.outgoing:
        if channel.content.sampler is None or not channel.content.sampler.learned:
            continue
        counted = list[bool]()
        for index, member in enumerate(channel.members):
            port = channel.layout.seed_of(index), member.sender, member.content.port_name
            counted.append(port not in counted_ports)
            counted_ports.add(port)
        if any(counted):
            device = channel.content.zeros.device
            learned.append(
                SampledMessages(channel, None if all(counted) else torch.tensor(counted, device=device))
            )
    return learned
