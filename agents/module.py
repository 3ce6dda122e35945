"""Agents from the user's own torch modules."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
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
    sub,
    unnamed,
    with_prefix,
)
from antiphon.base.errors import ScenarioError
from antiphon.base.problems import as_whole
from antiphon.base.tools import copy_with
from antiphon.nets.isolation.global_numbers import of_seed
from antiphon.nets.layers import initial_norm, norm_buffers, normalise
from antiphon.nets.modules import (
    ModuleFunction,
    check_module,
    draws,
    per_sample,
)
from antiphon.nets.user_modules import (
    buffers_of,
    module_of,
    parameters_of,
)

_MODULE = "module"


class SideBySide(nn.Module):
    """Wrap a module with a state or a loss of its own as a module that reads and returns all side by side.

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
        """The arguments of a call of the module, for errors."""
        inputs = f"[batch, {self.inputs}]"
        return f"{inputs} and the state [batch, {self.state}]" if self.state else inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs (+ 1: the loss) + state] from [B, inputs + state]."""
        returned = self.module(x[..., : self.inputs], x[..., self.inputs :]) if self.state else self.module(x)
        parts = ["the output"]
        if self.state:
            parts.append("the state for the next tick")
        if self.loss is not None:
            parts.append("the loss per sample, [batch]")
        if not isinstance(returned, tuple) or len(returned) != len(parts):
            raise ScenarioError(f"{type(self.module).__name__} must return {' and '.join(parts)}")
        output, *rest = returned
        if output.shape[-1] != self.outputs:
            name, needed = type(self.module).__name__, [f"[batch, {self.outputs}]"]
            needed += [f"the state [batch, {self.state}]"] if self.state else []
            raise ScenarioError(f"{name} returns {list(output.shape)} first; return {' and '.join(needed)}")
        if self.loss is not None:
            loss_name = f"the loss that {type(self.module).__name__} returns"
            loss = per_sample(loss_name, rest.pop(), x.shape[0]).unsqueeze(1)  # len cannot be traced
            output = torch.cat([output[:, : self.loss], loss, output[:, self.loss :]], 1)
        return torch.cat([output, *rest], 1)


def _state_size(module: nn.Module) -> int:
    """The components of the state that a module declares; ScenarioError where that is no number."""
    declared = getattr(module, "state_size", None)
    size = 0 if declared is None else as_whole(declared)
    if size is None or size < 0:
        raise ScenarioError(
            f"the state_size of {type(module).__name__} is {declared!r}; must be a whole number, at least 0"
        )
    return size


@final
class ModuleNetwork(Network):
    """Network of a user's module, called with flat inputs; its output is split over the heads in canonical order.

    Args:
        source: A factory called with `inputs` and `outputs` (sizes), or a module; if its attribute `keeps_input` is true,
            it never writes to its input, which then need not be copied. With an attribute `state_size` the module also
            takes the state and returns the next one.
        input_shape: Shape of one sample; flattened.
        heads: The objective's head first, then the value's head if it learns values, then the message ports.
        seed: Seed of the global random state under which a factory samples its initial parameters.
        options: More keyword arguments of the factory.
        own_loss: Whether the module also returns a loss per sample: the last component of the objective's head.
        data: Returns the observations of two samples, [2, features], for a module that fails for zeros; or None.

    Raises:
        ScenarioError: The factory does not take `inputs` and `outputs`, or the module does not turn [2, inputs] into
            [2, outputs], with a state [2, state_size] beside both and a loss [2] if it has them.
    """

    pure = False

    def __init__(
        self,
        source: Callable[..., nn.Module] | nn.Module,
        input_shape: tuple[int, ...],
        heads: tuple[Head, ...],
        seed: int,
        options: Mapping[str, Any] = MappingProxyType({}),
        *,
        own_loss: bool = False,
        data: Callable[[], Tensor | None] | None = None,
    ) -> None:
        super().__init__((features_of(input_shape),), heads)
        inputs, outputs = self.input_shape[0], sum(head.features for head in heads)
        column = self.heads[OBJECTIVE].features - 1 if own_loss else None
        try:
            module = module_of(source, seed, inputs=inputs, outputs=outputs - own_loss, **options)
            self.state_size = _state_size(module)
            self._keeps_input = bool(getattr(source, "keeps_input", False))
            needs = "the objective's size plus the sizes of its messages"
            if self.state_size:
                needs += ", and its state"
            if own_loss:
                needs += ", and its loss"
            if self.state_size or own_loss:
                module = SideBySide(module, inputs, outputs - own_loss, state=self.state_size, loss=column)
            inputs, outputs = inputs + self.state_size, outputs + self.state_size
            check_module(module, inputs, outputs, needs, random=True, data=data)
        except ScenarioError as error:
            raise ScenarioError(f"network: {error}") from None
        self.function, self.module = ModuleFunction(module, inputs, outputs), module
        self._wrapped = isinstance(module, SideBySide)
        self._draws = draws(module, inputs, evaluated=True)

    def _named(self, tensors: Tensors) -> Tensors:
        """The module's tensors by the network's names: `module.` before the names that the user's module has."""
        return tensors if self._wrapped else with_prefix(_MODULE, tensors)

    def _module_tensors(self, tensors: Tensors) -> Tensors:
        """The module's tensors, of those of the network, by the module's own names."""
        if not self._wrapped:
            return sub(tensors, _MODULE)
        return {name: value for name, value in tensors.items() if name.startswith(f"{_MODULE}.")}

    def parameters(self, generator: torch.Generator) -> Tensors:
        # The module's own, with their hooks and attributes: every call puts them in their place again.
        initial = self._named({**parameters_of(self.module)})
        for head in self.heads.values():
            initial |= initial_norm(head.norm, head.features, f"{head.name}.norm.")
        return initial

    def buffers(self) -> Tensors:
        buffers = self._named({name: b.clone() for name, b in buffers_of(self.module).items()})
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
        own_parameters, own_buffers = self._module_tensors(parameters), self._module_tensors(buffers)
        if x.dim() == 3:
            y, updated = self.function(own_parameters, own_buffers, x, training=training)
        else:
            how = {"training": training, "keeps_input": self._keeps_input}
            compute = partial(self.function, own_parameters, own_buffers, x.flatten(1), **how)
            y, updated = of_seed(settings.get("seed", 0), compute, x.device, repeatable=not self._draws)
        if (
            y.dtype is torch.float64 and x.dtype is torch.float32
        ):  # of a buffer in float64: messages are of the run's type
            y = y.to(x.dtype)
        after = self._named(updated)
        ports: Tensors = {}
        if self.state_size:
            y, ports[STATE] = y[..., : -self.state_size], y[..., -self.state_size :]
        sizes = [head.features for head in self.heads.values()]
        parts = torch.split(y, sizes, dim=-1) if len(sizes) > 1 else (y,)  # its backward copies the gradient
        for head, output in zip(self.heads.values(), parts, strict=True):
            name = f"{head.name}.norm."
            output, statistics = normalise(head.norm, output, parameters, buffers, name, training=training)
            after |= statistics
            ports[head.name] = (
                output if len(head.size) == 1 else output.reshape(*output.shape[:-1], *head.size)
            )
        return ports, after

    def modules(self) -> dict[str, nn.Module]:
        return {"" if self._wrapped else _MODULE: self.module}

    def row_split_obstacle(self) -> str | None:
        normed = next((head.name for head in self.heads.values() if head.norm == "batch"), None)
        return self.function.row_split_obstacle if normed is None else f"its output '{normed}' has batch norm"

    def probe(self) -> Network:
        function = self.function.probe()
        return copy_with(self, function=function, module=function.module)

    def signature(self) -> Hashable:
        return ModuleNetwork, self.input_shape, unnamed(self.heads.values()), self.function.key

    def stacking_obstacle(self) -> str | None:
        return self.function.refusal

    def port_shape(self, port: str) -> tuple[int, ...]:
        return (self.state_size,) if port == STATE and self.state_size else self.heads[port].size
