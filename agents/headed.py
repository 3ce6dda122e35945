"""Networks of a trunk and heads, base of the built-in kinds, and their named layers: initial parameters, buffers and
torch modules of linear maps and normalisations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import final

import torch
from torch import Tensor, fx, nn

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
from antiphon.nets.layers import (
    bias_places,
    initial_linear,
    initial_norm,
    linear,
    norm_buffers,
    normalise,
    with_feedback,
)

__all__ = [
    "HeadedNetwork",
    "SequentialEmitter",
    "attach",
    "initial_layers",
    "layer_buffers",
    "linear_module",
    "norm_module",
    "transported",
]


def transported(y: Tensor, weight: str, transports: Sequence[Transport]) -> Tensor:
    """Return a layer's output with the gradient paths of messages that replace its `weight` (feedback alignment)."""
    for transport in transports:
        if weight in transport.weights:
            y = with_feedback(y, transport.message, transport.weights[weight], transport.rows)
    return y


def initial_layers(shapes: Sequence[tuple[int, ...]], norm: str, generator: torch.Generator) -> Tensors:
    """Sample the parameters of hidden layers, given the shape [outputs, inputs, …] of each layer's weight."""
    initial: Tensors = {}
    for i, shape in enumerate(shapes):
        weight, bias = initial_linear(features_of(shape[1:]), shape, generator)
        initial |= {f"{i}.weight": weight, f"{i}.bias": bias}
        initial |= with_prefix(f"{i}.norm", initial_norm(norm, shape[0]))
    return initial


def layer_buffers(widths: Sequence[int], norm: str) -> Tensors:
    """Return the running statistics of hidden layers with the given numbers of features."""
    buffers: Tensors = {}
    for i, width in enumerate(widths):
        buffers |= with_prefix(f"{i}.norm", norm_buffers(norm, width))
    return buffers


def attach(root: nn.Module, name: str, module: nn.Module) -> None:
    """Add `module` to `root` at a dotted name whose parent exists."""
    parent, _, last = name.rpartition(".")
    root.get_submodule(parent).add_module(last, module)


def linear_module(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return torch's linear layer with copies of a weight [O, I] and a bias [O], if it has one."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device=weight.device, dtype=weight.dtype)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


def norm_module(kind: str, shape: tuple[int, ...], parameters: Tensors, buffers: Tensors) -> nn.Module:
    """Return torch's layer for a normalisation over samples of `shape`, with copies of the parameters."""
    gain, bias = parameters["gain"], parameters["bias"]
    if kind == "layer":
        full = [t.view(-1, *([1] * (len(shape) - 1))).expand(shape) for t in (gain, bias)]
        norm: nn.Module = nn.LayerNorm(shape, device=gain.device, dtype=gain.dtype)
        norm.load_state_dict({"weight": full[0], "bias": full[1]})
        return norm
    kinds = {1: nn.BatchNorm1d, 3: nn.BatchNorm2d}
    norm = kinds[len(shape)](shape[0], device=gain.device, dtype=gain.dtype)
    count = torch.zeros((), dtype=torch.int64)
    norm.load_state_dict(
        {
            "weight": gain,
            "bias": bias,
            "running_mean": buffers["mean"],
            "running_var": buffers["var"],
            "num_batches_tracked": count,
        }
    )
    return norm


class HeadedNetwork(Network):
    """Networks of a trunk and heads: base of the built-in kinds."""

    @abstractmethod
    def trunk_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the last hidden activation (of the input, where there is no hidden layer)."""

    @abstractmethod
    def first_layer(self) -> dict[str, tuple[int, ...]]:
        """Return the weight's shape [outputs, inputs, …] of the input layer, by its name.

        It is empty where there is no such layer and the heads read the input.
        """

    @abstractmethod
    def trunk_signature(self) -> Hashable:
        """Return the settings of the trunk's function, as a key."""

    @abstractmethod
    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        """Sample the trunk's parameters."""

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
        """Add the trunk to `root` at a dotted name and return its emitter."""

    def parameters(self, generator: torch.Generator) -> Tensors:
        initial = self.trunk_parameters(generator)
        inputs = features_of(self.trunk_shape())
        for head in self.heads.values():  # seeded by name: independent of other heads
            own = random.generator(generator.initial_seed(), head.name)
            weight, bias = initial_linear(inputs, (head.features, inputs), own)
            initial |= {f"{head.name}.weight": weight, f"{head.name}.bias": bias}
            initial |= with_prefix(f"{head.name}.norm", initial_norm(head.norm, head.features))
        return initial

    def buffers(self) -> Tensors:
        buffers = self.trunk_buffers()
        for head in self.heads.values():
            buffers |= with_prefix(f"{head.name}.norm", norm_buffers(head.norm, head.features))
        return buffers

    def feedback_weights(self, message: tuple[int, ...], generator: torch.Generator) -> Tensors:
        inputs = features_of(self.input_shape)
        heads: dict[str, tuple[int, ...]] = {h.name: (h.features, inputs) for h in self.heads.values()}
        size = message[0] if len(self.input_shape) > 1 else features_of(message)
        initial: Tensors = {}
        for name, shape in (self.first_layer() or heads).items():
            own = random.generator(generator.initial_seed(), name)
            weight, _ = initial_linear(features_of(shape[1:]), (shape[0], size, *shape[2:]), own)
            initial[f"{name}.weight"] = weight
        return initial

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
        assert state is None or self.state_size  # a network without state takes none
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
                y, updated = normalise(
                    head.norm,
                    y,
                    sub(parameters, key),
                    sub(buffers, key),
                    training=training,
                    bias_before=bias_before,
                )
                after |= with_prefix(key, updated)
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
    """Emitter of a trunk that is one chain of torch modules.

    Args:
        root: Module to which the chain is added.
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
