"""Networks behind an aggregation (attention, or a user's own) that joins the messages of several senders."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Unpack, final

import torch
from torch import Tensor, nn

from antiphon.agents.network import CallSettings, Network, Tensors, sub, with_prefix
from antiphon.base.errors import ScenarioError
from antiphon.base.extensions import made, name_of
from antiphon.nets.user_module import ModuleFunction, module_of, output_shape

_PREFIX = "fan_in"


class Aggregator(nn.Module):
    """An aggregation of messages side by side, followed by a column for each that is 1 if the message is present."""

    def __init__(self, aggregation: Callable[[Tensor, Tensor], Tensor], senders: int, size: int) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.senders, self.size = senders, size

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, features] from [B, senders * size + senders]."""
        messages = x[..., : self.senders * self.size].reshape(*x.shape[:-1], self.senders, self.size)
        return self.aggregation(messages, x[..., self.senders * self.size :] > 0.5).to(x.dtype)


@final
class Aggregated(Network):
    """A network that reads observations, and messages joined by an aggregation.

    Args:
        kind: A registered name, a class, or the aggregation itself.
        options: Keyword arguments of its factory.
        observed: Components of the observations, which come first.
        senders: Number of channels that are joined.
        size: Components of each message.
        inner: Makes the network from the shape of its input.

    Raises:
        ScenarioError: The aggregation cannot be made or does not fit; the line begins with the key.
    """

    def __init__(
        self,
        kind: Any,
        options: Mapping[str, Any],
        *,
        observed: int,
        senders: int,
        size: int,
        seed: int,
        inner: Callable[[tuple[int, ...]], Network],
    ) -> None:
        joined = senders * size + senders

        def make(seed: int) -> nn.Module:
            return module_of(
                lambda: Aggregator(
                    made("aggregation", kind, options, size=size, senders=senders), senders, size
                ),
                seed,
            )

        try:
            arguments = f"messages [2, {senders}, {size}] and present [2, {senders}]"
            self.aggregator = ModuleFunction(make, (kind, {**options, "size": size}), seed, joined)
            shape = output_shape(self.aggregator.module, joined)
            if len(shape) != 2:
                raise ScenarioError(
                    f"{name_of(kind)} of {arguments} returns {shape}; return [batch, features]"
                )
        except ScenarioError as error:
            raise ScenarioError(f"fan_in: {error}") from error.__cause__
        self.observed, self.inner = observed, inner((observed + shape[1],))
        super().__init__((observed + joined,), tuple(self.inner.heads.values()))
        self.pure, self.state_size = self.inner.pure, self.inner.state_size
        self.user_prefixes = (*self.inner.user_prefixes, _PREFIX)

    def parameters(self, generator: torch.Generator) -> Tensors:
        return self.inner.parameters(generator) | with_prefix(_PREFIX, self.aggregator.initial_values()[0])

    def buffers(self) -> Tensors:
        return self.inner.buffers() | with_prefix(_PREFIX, self.aggregator.initial_values()[1])

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        own_parameters, own_buffers, messages = (
            sub(parameters, _PREFIX),
            sub(buffers, _PREFIX),
            x[..., self.observed :],
        )
        training, seed = settings["training"], settings.get("seed", 0)
        y, after = self.aggregator(own_parameters, own_buffers, messages, training=training, seed=seed)
        ports, updated = self.inner(
            parameters, buffers, torch.cat([x[..., : self.observed], y], -1), **settings
        )
        return ports, updated | with_prefix(_PREFIX, after)

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.inner.port_shape(port)

    def row_split_obstacle(self) -> str | None:
        return self.aggregator.row_split_obstacle or self.inner.row_split_obstacle()

    def signature(self) -> Hashable:
        return Aggregated, self.observed, self.aggregator.key, self.inner.signature()

    def stacking_obstacle(self) -> str | None:
        reason = self.aggregator.stacking_obstacle
        return self.inner.stacking_obstacle() if reason is None else f"its fan-in: {reason}"
