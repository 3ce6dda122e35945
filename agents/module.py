"""Networks of the user's own torch modules."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, Unpack, final

import torch
from torch import Tensor, nn

from antiphon.agents.network import (
    OBJECTIVE,
    STATE,
    CallSettings,
    Head,
    Network,
    Tensors,
    features_of,
    unnamed,
)
from antiphon.base.errors import ScenarioError
from antiphon.base.problems import within
from antiphon.nets.layers import initial_norm, norm_buffers, normalise
from antiphon.nets.user_module import (
    ModuleFunction,
    ModuleSource,
    check_module,
    module_of,
    per_sample,
)


class SideBySide(nn.Module):
    """Wrap a module as one that reads input and state side by side, and returns output, loss and state side by side.

    Args:
        inputs: Its input features, without the state.
        outputs: Its output features, without the state and the loss.
        state: Components of the state that it reads and returns; 0: it has none.
        loss: The column of the output where its loss goes; None: it returns none.
    """

    def __init__(self, module: nn.Module, inputs: int, outputs: int, *, state: int, loss: int | None) -> None:
        super().__init__()
        self.module = module
        self.inputs, self.outputs, self.state, self.loss = inputs, outputs, state, loss

    @property
    def takes(self) -> str:
        inputs = f"[batch, {self.inputs}]"
        return f"{inputs} and the state [batch, {self.state}]" if self.state else inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs (+ 1: the loss) + state] from [B, inputs + state]."""
        if not self.state and self.loss is None:
            output: Tensor = self.module(x)
            return output
        returned = self.module(x[..., : self.inputs], x[..., self.inputs :]) if self.state else self.module(x)
        count = 1 + bool(self.state) + (self.loss is not None)
        if not isinstance(returned, tuple) or len(returned) != count or returned[0].shape[-1] != self.outputs:
            needs = f"the output [batch, {self.outputs}]"
            needs += f", the state for the next tick [batch, {self.state}]" if self.state else ""
            needs += ", the loss per sample [batch]" if self.loss is not None else ""
            raise ScenarioError(f"{type(self.module).__name__} must return {needs}")
        output, *rest = returned
        if self.loss is not None:
            loss_name = f"the loss that {type(self.module).__name__} returns"
            loss = per_sample(loss_name, rest.pop(), x.shape[0]).unsqueeze(1)  # len cannot be traced
            output = torch.cat([output[:, : self.loss], loss, output[:, self.loss :]], 1)
        return torch.cat([output, *rest], 1)


@final
class ModuleNetwork(Network):
    """Network of a user's module, called with flat inputs; its output is split over the heads in canonical order.

    Args:
        source: A factory called with `inputs` and `outputs` (sizes), or a module. With an attribute `state_size` the module
            also takes the state and returns the next one.
        heads: The objective's head first, then the value's head if it learns values, then the message ports.
        own_loss: Whether the module also returns a loss per sample: the last component of the objective's head.
    """

    pure = False
    user_prefixes = ("module.",)

    def __init__(
        self,
        source: ModuleSource,
        input_shape: tuple[int, ...],
        heads: tuple[Head, ...],
        seed: int,
        options: Mapping[str, Any] = MappingProxyType({}),
        *,
        own_loss: bool = False,
    ) -> None:
        super().__init__((features_of(input_shape),), heads)
        inputs, outputs = self.input_shape[0], sum(head.features for head in heads)
        sizes = {"inputs": inputs, "outputs": outputs - own_loss}
        column = self.heads[OBJECTIVE].features - 1 if own_loss else None

        def make(seed: int) -> SideBySide:
            module: Any = module_of(source, seed, **sizes, **options)
            state = int(getattr(module, "state_size", None) or 0)
            return SideBySide(module, *sizes.values(), state=state, loss=column)

        with within(("network",)):
            made = make(seed)
            self.state_size = made.state
            self.function = ModuleFunction(
                made, make, (source, {**options, **sizes}), seed, inputs + self.state_size
            )
            needs = "the objective's size plus the sizes of its messages"
            needs += ", and its state" if self.state_size else ""
            needs += ", and its loss" if own_loss else ""
            check_module(self.function.module, inputs + self.state_size, outputs + self.state_size, needs)

    def parameters(self, generator: torch.Generator) -> Tensors:
        initial = self.function.initial_values()[0]
        for head in self.heads.values():
            initial |= initial_norm(head.norm, head.features, f"{head.name}.norm.")
        return initial

    def buffers(self) -> Tensors:
        buffers = self.function.initial_values()[1]
        for head in self.heads.values():
            buffers |= norm_buffers(head.norm, head.features, f"{head.name}.norm.")
        return buffers

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        training, state = settings["training"], settings.get("state")
        assert state is None or self.state_size
        if self.state_size:
            x = torch.cat([x, x.new_zeros(*x.shape[:-1], self.state_size) if state is None else state], -1)
        y, after = self.function(parameters, buffers, x, training=training, seed=settings.get("seed", 0))
        ports: Tensors = {}
        if self.state_size:
            y, ports[STATE] = y[..., : -self.state_size], y[..., -self.state_size :]
        sizes = [head.features for head in self.heads.values()]
        parts = torch.split(y, sizes, dim=-1) if len(sizes) > 1 else (y,)  # its backward copies the gradient
        for head, output in zip(self.heads.values(), parts, strict=True):
            name = f"{head.name}.norm."
            output, statistics = normalise(head.norm, output, parameters, buffers, name, training=training)
            after |= statistics
            ports[head.name] = head.shaped(output)
        return ports, after

    def row_split_obstacle(self) -> str | None:
        normed = next((head.name for head in self.heads.values() if head.norm == "batch"), None)
        return self.function.row_split_obstacle if normed is None else f"its output '{normed}' has batch norm"

    def signature(self) -> Hashable:
        return ModuleNetwork, self.input_shape, unnamed(self.heads.values()), self.function.key

    def stacking_obstacle(self) -> str | None:
        return self.function.stacking_obstacle

    def port_shape(self, port: str) -> tuple[int, ...]:
        return (self.state_size,) if port == STATE and self.state_size else self.heads[port].size
