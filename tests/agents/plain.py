"""Networks written down in torch's own layers: what the built-in kinds, and users' modules with heads, must compute."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.agents.feedforward import Conv, Mlp, Pointer
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import HIDDEN, OBJECTIVE, STATE, Head, Network, Tensors, sub
from antiphon.agents.recurrent import Recurrent

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


class PerChannel(nn.Module):
    """Layer norm of maps over all their components, with a gain and a bias per channel."""

    def __init__(self, gain: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(gain.clone()), nn.Parameter(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        view = (-1, *[1] * (x.dim() - 2))
        return F.layer_norm(x, x.shape[1:]) * self.gain.view(view) + self.bias.view(view)


class Unit(nn.Module):
    """Rows divided by their length."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Torch's linear map or same-padded convolution."""
    outputs, inputs, *sides = weight.shape
    own = {"bias": bias is not None, "dtype": weight.dtype}
    layer = (
        nn.Conv2d(inputs, outputs, sides[0], padding="same", **own)
        if sides
        else nn.Linear(inputs, outputs, **own)
    )  # type: ignore[arg-type]
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


def norm_of(kind: str, axes: int, parameters: Tensors, buffers: Tensors, name: str) -> list[nn.Module]:
    """Torch's normalisation of samples with so many axes; none for `none`."""
    if kind == "none":
        return []
    if kind == "unit":
        return [Unit()]
    gain, bias = parameters[f"{name}.gain"], parameters[f"{name}.bias"]
    if kind == "layer":
        return [PerChannel(gain, bias)]
    norm = (nn.BatchNorm1d if axes == 1 else nn.BatchNorm2d)(len(gain), dtype=gain.dtype)
    moments = {"running_mean": buffers[f"{name}.mean"], "running_var": buffers[f"{name}.var"]}
    count = torch.zeros((), dtype=torch.int64)
    norm.load_state_dict({"weight": gain, "bias": bias, **moments, "num_batches_tracked": count})
    return [norm]


def layers_of(network: Mlp | Conv | Recurrent, parameters: Tensors, buffers: Tensors) -> nn.Sequential:
    """Hidden layers."""
    layers: list[nn.Module] = [] if len(network.input_shape) > 1 else [nn.Flatten(1)]
    for i in range(len(network.widths)):
        layers.append(linear_of(parameters[f"{i}.weight"], parameters[f"{i}.bias"]))
        layers += norm_of(network.norm, len(network.input_shape), parameters, buffers, f"{i}.norm")
        layers.append(ACTIVATIONS[network.activation]())
        pool = network.pool[i] if network.pool else "none"
        if pool != "none":
            layers.append((nn.MaxPool2d if pool == "max" else nn.AvgPool2d)(3, 2, 1))
    return nn.Sequential(*layers)


def head_of(head: Head, parameters: Tensors, buffers: Tensors, *, linear: bool = True) -> nn.Sequential:
    """A head, or what follows its linear map."""
    layers: list[nn.Module] = [nn.Flatten(1)]
    if linear:
        layers.append(linear_of(parameters[f"{head.name}.weight"], parameters[f"{head.name}.bias"]))
    layers += norm_of(head.norm, 1, parameters, buffers, f"{head.name}.norm")
    return nn.Sequential(*layers, *[nn.Unflatten(1, head.size)] * (len(head.size) > 1))


class Cell(nn.Module):
    """A recurrent cell, by the equations of its kind."""

    def __init__(self, network: Recurrent, parameters: Tensors, buffers: Tensors) -> None:
        super().__init__()
        own, held = sub(parameters, "cell"), sub(buffers, "cell")
        cell = self.cell = network.cell

        def term(name: str) -> nn.Sequential:
            linear = linear_of(own[f"{name}.weight"], own.get(f"{name}.bias"))
            return nn.Sequential(linear, *norm_of(cell.norm, 1, own, held, f"{name}.norm"))

        self.input, self.recurrent = term("input"), term("recurrent")
        inner = norm_of(cell.norm, 1, own, held, "cell.norm") if cell.kind == "lstm" else []
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The units and the state after a tick."""
        kind, size, leak = self.cell.kind, self.cell.size, self.cell.leak
        h = state[:, :size]
        new, old = self.input(x), self.recurrent(h)
        if kind in ("rnn", "leaky"):
            units = (new + old).tanh()
            units = units if kind == "rnn" else (1 - leak) * h + leak * units
            return units, units
        if kind == "gru":
            reset = (new[:, :size] + old[:, :size]).sigmoid()
            update = (new[:, size : 2 * size] + old[:, size : 2 * size]).sigmoid()
            units = (1 - update) * (new[:, 2 * size :] + reset * old[:, 2 * size :]).tanh() + update * h
            return units, units
        i, f, g, o = (new + old).split(size, 1)
        c = f.sigmoid() * state[:, size:] + i.sigmoid() * g.tanh()
        units = o.sigmoid() * self.inner(c).tanh()
        return units, torch.cat([units, c], 1)


class Plain(nn.Module):
    """A network in torch's layers, called with an input [B, …] and a state; returns its ports."""

    def __init__(self, network: Network, parameters: Tensors, buffers: Tensors) -> None:
        super().__init__()
        self.network = network
        linear = not isinstance(network, ModuleNetwork)
        heads = {
            n: h for n, h in network.heads.items() if not (isinstance(network, Pointer) and n == OBJECTIVE)
        }
        self.trunk: Callable[..., Tensors]
        if isinstance(network, ModuleNetwork):
            self.module = copy.deepcopy(network.function.module.module).double()
            values = sub(parameters, "module") | sub(buffers, "module")
            self.module.load_state_dict(values, strict=False)
            self.trunk = lambda x, state: {HIDDEN: self.module(x.flatten(1).clone())}
        elif isinstance(network, Recurrent):
            self.encoder, self.cell = (
                layers_of(network, parameters, buffers),
                Cell(network, parameters, buffers),
            )
            self.trunk = self.recurrent
        elif isinstance(network, Pointer):
            parts = {n: (part, sub(parameters, n), sub(buffers, n)) for n, part in network.parts.items()}
            self.parts = nn.ModuleDict(
                {
                    n: nn.Sequential(layers_of(*p), head_of(p[0].heads["embedding"], *p[1:]))
                    for n, p in parts.items()
                }
            )
            self.trunk = self.pointer
        else:
            assert isinstance(network, Mlp | Conv)
            self.hidden = layers_of(network, parameters, buffers)
            self.trunk = lambda x, state: {HIDDEN: self.hidden(x)}
        self.heads = nn.ModuleDict(
            {n: head_of(h, parameters, buffers, linear=linear) for n, h in heads.items()}
        )

    def recurrent(self, x: Tensor, state: Tensor | None) -> Tensors:
        """Of a recurrent network."""
        state = x.new_zeros(len(x), self.network.state_size) if state is None else state
        units, after = self.cell(self.encoder(x), state)
        return {HIDDEN: units, STATE: after}

    def pointer(self, x: Tensor, state: Tensor | None) -> Tensors:
        """Of a network that chooses among candidates."""
        network = self.network
        assert isinstance(network, Pointer)
        flat, columns = x.flatten(1), network.count * network.features
        candidates = self.parts["candidate"](flat[:, :columns].reshape(-1, network.features))
        query = self.parts["query"](flat[:, columns:])
        scores = torch.einsum("bcf,bf->bc", candidates.view(len(x), network.count, -1), query)
        return {HIDDEN: scores, OBJECTIVE: scores}

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensors:
        """The ports."""
        ports = self.trunk(x, state)
        hidden = ports[HIDDEN]
        if isinstance(self.network, ModuleNetwork):
            parts = hidden.split([head.features for head in self.network.heads.values()], 1)
            return {n: head(part) for (n, head), part in zip(self.heads.items(), parts, strict=True)}
        return ports | {name: head(hidden) for name, head in self.heads.items()}
