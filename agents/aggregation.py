"""Networks behind an aggregation (attention, or a user's own) that joins the messages of several senders."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Unpack, final

import torch
from torch import Tensor, nn

from antiphon.agents.network import CallSettings, Network, Tensors, sub, with_prefix
from antiphon.base.errors import ScenarioError
from antiphon.base.extensions import made, name_of
from antiphon.base.tools import copy_with
from antiphon.nets.modules import ModuleFunction, draws, output_size
from antiphon.nets.user_modules import copied, hold_modes, module_of

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
        joined = self.aggregation(messages, x[..., self.senders * self.size :] > 0.5)
        if not isinstance(joined, Tensor):
            return joined
        if joined.is_complex():
            raise ScenarioError(
                f"{name_of(self.aggregation)} returns complex numbers; return real ones, such as their abs()"
            )
        return joined.to(x.dtype)


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

        def assembled() -> nn.Module:
            aggregation = made("aggregation", kind, options, size=size, senders=senders)
            if isinstance(aggregation, nn.Module):
                aggregation = copied(aggregation)
                hold_modes(aggregation)
            return Aggregator(aggregation, senders, size)

        try:
            module = module_of(assembled, seed)
            arguments = f"messages [2, {senders}, {size}] and present [2, {senders}]"
            features = output_size(module, joined, f"{name_of(kind)} of {arguments}")
            if draws(module, joined):
                random = "uses random numbers (dropout?); use them in the network instead"
                raise ScenarioError(f"{name_of(kind)} {random}")
        except ScenarioError as error:
            raise ScenarioError(f"fan_in: {error}") from None
        self.observed, self.aggregator = observed, ModuleFunction(module, joined, features)
        self.inner = inner((observed + features,))
        super().__init__((observed + joined,), tuple(self.inner.heads.values()))
        self.pure, self.state_size = self.inner.pure, self.inner.state_size

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
        y, after = self.aggregator(own_parameters, own_buffers, messages, training=settings["training"])
        ports, updated = self.inner(
            parameters, buffers, torch.cat([x[..., : self.observed], y], -1), **settings
        )
        return ports, updated | with_prefix(_PREFIX, after)

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.inner.port_shape(port)

    def modules(self) -> dict[str, nn.Module]:
        return {**self.inner.modules(), _PREFIX: self.aggregator.module}

    def row_split_obstacle(self) -> str | None:
        return self.aggregator.row_split_obstacle or self.inner.row_split_obstacle()

    def probe(self) -> Network:
        return copy_with(self, aggregator=self.aggregator.probe(), inner=self.inner.probe())

    def signature(self) -> Hashable:
        return Aggregated, self.observed, self.aggregator.key, self.inner.signature()

    def stacking_obstacle(self) -> str | None:
        reason = self.aggregator.refusal
        return self.inner.stacking_obstacle() if reason is None else f"its fan-in: {reason}"
