"""A trunk, then heads: what the built-in kinds share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import final

import torch
from torch import Tensor, fx, nn

from antiphon.agents.layers import attach, linear_module, norm_module, transported
from antiphon.agents.network import (
    HIDDEN,
    Emitter,
    Network,
    Tensors,
    Transport,
    features_of,
    sub,
    unnamed,
    with_prefix,
)
from antiphon.nets import random
from antiphon.nets.layers import bias_places, initial_linear, initial_norm, linear, norm_buffers, normalise

__all__ = ["HeadedNetwork", "SequentialEmitter"]


class HeadedNetwork(Network):
    """A trunk, then heads: what the built-in kinds share."""

    @abstractmethod
    def trunk_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the last hidden activation (of the input, where there is no hidden layer)."""

    @abstractmethod
    def first_layer(self) -> dict[str, tuple[int, ...]]:
        """Return the weight's shape [outputs, inputs, …] of the layer that reads the input, by its name.

        It is empty where there is no such layer: there the heads read the input.
        """

    @abstractmethod
    def trunk_signature(self) -> Hashable:
        """Return the settings that make the trunk the function it is."""

    @abstractmethod
    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        """Draw the trunk's parameters."""

    @abstractmethod
    def trunk_buffers(self) -> Tensors:
        """Return the trunk's initial buffers."""

    @abstractmethod
    def trunk(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        transports: Sequence[Transport],
        state: Tensor | None,
    ) -> tuple[Tensors, Tensors]:
        """Return the trunk's ports, `HIDDEN` among them, and its new buffers."""

    @abstractmethod
    def emit_trunk(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        """Add the trunk to `root` at a dotted name and return how to call it for its ports."""

    def parameters(self, generator: torch.Generator) -> Tensors:
        drawn = self.trunk_parameters(generator)
        inputs = features_of(self.trunk_shape())
        for head in self.heads.values():  # each from a seed of its own name: another changes nothing here
            own = random.generator(generator.initial_seed(), head.name)
            weight, bias = initial_linear(inputs, (head.features, inputs), own)
            drawn |= {f"{head.name}.weight": weight, f"{head.name}.bias": bias}
            drawn |= with_prefix(f"{head.name}.norm", initial_norm(head.norm, head.features))
        return drawn

    def buffers(self) -> Tensors:
        held = self.trunk_buffers()
        for head in self.heads.values():
            held |= with_prefix(f"{head.name}.norm", norm_buffers(head.norm, head.features))
        return held

    def feedback_weights(self, message: tuple[int, ...], generator: torch.Generator) -> Tensors:
        inputs = features_of(self.input_shape)
        heads: dict[str, tuple[int, ...]] = {h.name: (h.features, inputs) for h in self.heads.values()}
        size = message[0] if len(self.input_shape) > 1 else features_of(message)
        drawn: Tensors = {}
        for name, shape in (self.first_layer() or heads).items():
            own = random.generator(generator.initial_seed(), name)
            weight, _ = initial_linear(features_of(shape[1:]), (shape[0], size, *shape[2:]), own)
            drawn[f"{name}.weight"] = weight
        return drawn

    def __call__(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        seed: int = 0,
        transports: Sequence[Transport] = (),
        state: Tensor | None = None,
    ) -> tuple[Tensors, Tensors]:
        assert state is None or self.state_size  # who remembers nothing is handed nothing
        ports, after = self.trunk(
            parameters, buffers, x, training=training, transports=transports, state=state
        )
        flat = ports[HIDDEN]
        if len(self.trunk_shape()) > 1:
            flat = flat.flatten(-len(self.trunk_shape()))
        for name, head in self.heads.items():
            bias, bias_before = bias_places(head.norm, parameters[f"{name}.bias"])
            y = linear(flat, parameters[f"{name}.weight"], bias)
            y = transported(y, f"{name}.weight", transports)
            if head.norm != "none":
                key = f"{name}.norm"
                y, moved = normalise(
                    head.norm,
                    y,
                    sub(parameters, key),
                    sub(buffers, key),
                    training=training,
                    bias_before=bias_before,
                )
                after |= with_prefix(key, moved)
            ports[name] = y if len(head.size) == 1 else y.reshape(*y.shape[:-1], *head.size)
        return ports, after

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.trunk_shape() if port == HIDDEN else self.heads[port].size

    def signature(self) -> Hashable:
        return type(self), self.input_shape, unnamed(self.heads.values()), self.trunk_signature()

    def emit(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        root.add_module(name, nn.Module())
        place = root.get_submodule(name)
        trunk = self.emit_trunk(root, f"{name}.trunk", parameters, buffers)
        for head in self.heads.values():
            layers: list[nn.Module] = [nn.Flatten(1)] if len(self.trunk_shape()) > 1 else []
            layers.append(linear_module(parameters[f"{head.name}.weight"], parameters[f"{head.name}.bias"]))
            if head.norm != "none":
                key = f"{head.name}.norm"
                layers.append(
                    norm_module(head.norm, (head.features,), sub(parameters, key), sub(buffers, key))
                )
            if len(head.size) > 1:
                layers.append(nn.Unflatten(1, head.size))
            place.add_module(f"head_{head.name}", nn.Sequential(*layers))
        return _HeadedEmitter(name, trunk, tuple(self.heads))


@final
class SequentialEmitter(Emitter):
    """Calls a trunk that is one chain of torch modules.

    Args:
        root: Is given the chain.
        name: Where in `root`, dotted.
        layers: The chain.
    """

    def __init__(self, root: nn.Module, name: str, layers: Sequence[nn.Module]) -> None:
        attach(root, name, nn.Sequential(*layers))
        self._name = name

    def __call__(self, graph: fx.Graph, x: fx.Node, state: fx.Node | None = None) -> dict[str, fx.Node]:
        return {HIDDEN: graph.call_module(self._name, (x,))}


class _HeadedEmitter(Emitter):
    def __init__(self, name: str, trunk: Emitter, heads: tuple[str, ...]) -> None:
        self._name = name
        self._trunk = trunk
        self._heads = heads

    def __call__(self, graph: fx.Graph, x: fx.Node, state: fx.Node | None = None) -> dict[str, fx.Node]:
        ports = self._trunk(graph, x, state)
        for head in self._heads:
            ports[head] = graph.call_module(f"{self._name}.head_{head}", (ports[HIDDEN],))
        return ports
