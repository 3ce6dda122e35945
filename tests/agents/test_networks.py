"""Built-in networks against torch's layers over several ticks, as graphs, and N of one signature in one call; plain models."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.feedforward import Conv, Mlp, Pointer
from antiphon.agents.models import GPT
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import HIDDEN, OBJECTIVE, STATE, Head, Network, Tensors, sub
from antiphon.agents.recurrent import Recurrent
from tests.agents.made import composed, evaluated, made, numbers
from tests.kit.tensors import drawn, member, same, stack

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
        layers.append(linear_of(parameters[f"{i}.weight"], parameters.get(f"{i}.bias")))
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
        layers.append(linear_of(parameters[f"{head.name}.weight"], parameters.get(f"{head.name}.bias")))
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


BATCH, TICKS, SIZE = 6, 3, 5
NORMS = ("none", "layer", "batch")
HEADS = (Head(OBJECTIVE, (10,)), Head("to_b", (6,), "batch"), Head("map", (2, 3, 3), "layer"))


def networks() -> dict[str, Network]:
    """Every kind in the forms that differ."""
    found: dict[str, Network] = {
        f"mlp {norm} {activation}": made(
            "mlp", (3, 4), HEADS, hidden=(8, 7), norm=norm, activation=activation
        )
        for norm, activation in zip(NORMS, ("gelu", "tanh", "relu"), strict=True)
    }
    found["mlp, no hidden layer"] = made("mlp", (12,), HEADS, hidden=())
    found["mlp, identity"] = made("mlp", (12,), HEADS, hidden=(8, 7), norm="none", activation="identity")
    found |= {
        f"conv {norm} {pool}": made(
            "conv", (2, 6, 5), HEADS, hidden=(4, 3), norm=norm, size=3, pool=(pool, "none")
        )
        for norm, pool in zip(NORMS, ("avg", "max", "none"), strict=True)
    }
    found["conv, maps last"] = made(
        "conv", (1, 5, 7), HEADS, hidden=(4,), size=5, pool=("max",), activation="tanh"
    )
    found["conv, filters of one pixel"] = made(
        "conv", (1, 6, 5), HEADS, hidden=(4,), norm="none", size=1, activation="identity"
    )
    found |= {
        f"{kind} {norm}": made(kind, (2, 4), HEADS, size=SIZE, hidden=(7,), norm=norm, cell_norm=norm)
        for kind, norm in itertools.product(("rnn", "leaky", "gru", "lstm"), NORMS)
    }
    found["lstm, no encoder"] = made("lstm", (8,), HEADS, size=SIZE, cell_norm="layer")
    found["leaky, a leak"] = made("leaky", (8,), HEADS, size=SIZE, hidden=(7, 6), rate=0.2)
    found |= {
        f"pointer {norm}": made(
            "pointer", (44,), HEADS, (10, 2, 2), size=5, hidden=(8,), norm=norm, activation="tanh"
        )
        for norm in NORMS
    }
    found["pointer, no hidden layer"] = made("pointer", (21,), HEADS, (10, 2), size=3, hidden=(), norm="none")
    return found


NETWORKS = networks()
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def inputs(network: Network, batch: int = 8, seed: int = 1) -> Tensor:
    return drawn(seed, batch, *network.input_shape)


# --- beside torch's layers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@each_network
def test_it_equals_torch_s_layers(network: Network, training: bool) -> None:
    parameters, buffers = numbers(network)
    before = {k: v.clone() for k, v in buffers.items()}
    module = Plain(network, parameters, buffers).train(training)
    state, after = None, buffers
    for x in drawn(50, TICKS, BATCH, *network.input_shape):
        theirs = module(x, state)
        ports, after = network(parameters, after, x, training=training, state=state)
        assert set(ports) == set(theirs) >= {HIDDEN, OBJECTIVE, "to_b", "map"}
        for name, port in ports.items():
            assert port.shape == (BATCH, *network.port_shape(name))
            torch.testing.assert_close(port, theirs[name], rtol=1e-11, atol=1e-11)
        state = ports.get(STATE)
    same(buffers, before)  # which are values
    moved = sorted(float(b.sum()) for name, b in module.named_buffers() if "running" in name)
    assert sorted(float(b.sum()) for b in after.values()) == pytest.approx(moved)


@each_network
def test_its_graph_is_for_any_number_of_rows_and_has_gradients(network: Network) -> None:
    parameters, buffers = numbers(network)
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    module = composed(network, leaves, buffers)
    for rows in (1, BATCH):
        x = inputs(network, rows)
        ports, found = network(leaves, buffers, x, training=False)[0], module(x)
        same(ports, found)
        total = [sum(port.square().sum() for port in each.values()) for each in (ports, found)]
        own = torch.autograd.grad(total[0], list(leaves.values()))
        twins = [module.get_parameter(f"network.{name}") for name in leaves]
        same(own, torch.autograd.grad(total[1], twins))


@pytest.mark.parametrize("kind", ["mlp batch relu", "conv batch none"])
def test_a_layer_before_batch_norm_has_no_bias(kind: str) -> None:
    parameters, _ = numbers(NETWORKS[kind])
    biased = {name for name in parameters if name.endswith(".bias") and not name.endswith("norm.bias")}
    assert biased
    assert not biased & {"0.bias", "1.bias", "to_b.bias"}


def test_a_pointer_scores_each_candidate_by_its_product_with_the_rest() -> None:
    network = made(
        "pointer",
        (4 * 6 + 3,),
        (Head(OBJECTIVE, (4,)), Head("value", (1,))),
        (4, 2, 3),
        size=5,
        hidden=(7,),
        norm="none",
    )
    parameters, buffers = numbers(network)
    x = inputs(network)

    def embed(part: str, read: Tensor) -> Tensor:
        hidden = (read @ parameters[f"{part}.0.weight"].T + parameters[f"{part}.0.bias"]).relu()
        return hidden @ parameters[f"{part}.embedding.weight"].T + parameters[f"{part}.embedding.bias"]

    each, query = embed("candidate", x[:, :24].view(8, 4, 6)), embed("query", x[:, 24:])
    ports, _ = network(parameters, buffers, x, training=True)
    scores = torch.einsum("bkd,bd->bk", each, query)
    torch.testing.assert_close(ports[OBJECTIVE], scores)
    value = scores @ parameters["value.weight"].T + parameters["value.bias"]
    torch.testing.assert_close(ports["value"], value)


# --- stacked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("training", "batch"), [(True, BATCH), (False, BATCH), (True, 1)])
@each_network
def test_stacked_networks_are_the_single_ones(network: Network, training: bool, batch: int) -> None:
    several = [numbers(network, 100 * seed) for seed in range(3)]
    x = drawn(7, 3, batch, *network.input_shape)
    state = drawn(8, 3, batch, network.state_size) if network.state_size else None
    parameters, buffers = (stack([pair[i] for pair in several]) for i in (0, 1))
    before = {k: v.clone() for k, v in buffers.items()}
    together = evaluated(network, parameters, buffers, x, training, state)
    assert all(torch.equal(buffers[k], v) for k, v in before.items()), "buffers are values"
    assert set(together[1]) == set(buffers)
    for name, port in together[0].items():
        assert port.shape == (3, batch, *network.port_shape(name))
    for i, (p, b) in enumerate(several):
        alone = evaluated(network, p, b, x[i], training, None if state is None else state[i])
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(member(ours, i), theirs, rtol=1e-12, atol=1e-12)


MLP = made("mlp", (6,), HEADS, hidden=(4,))
LSTM = made("lstm", (6,), HEADS, size=4)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (MLP, made("mlp", (2, 3), hidden=(4,), heads=HEADS), True),
        (MLP, made("mlp", (6,), hidden=(4,), heads=(HEADS[0], Head("to_c", (6,), "batch"), HEADS[2])), True),
        (MLP, made("mlp", (6,), hidden=(4,), heads=(HEADS[1], HEADS[0], HEADS[2])), False),
        (MLP, made("mlp", (6,), hidden=(4,), heads=HEADS, norm="layer"), False),
        (MLP, made("mlp", (6,), hidden=(4,), heads=HEADS, activation="tanh"), False),
        (
            made("mlp", (6,), hidden=(), heads=HEADS, norm="layer"),
            made("mlp", (6,), hidden=(), heads=HEADS, activation="tanh"),
            True,
        ),
        (
            made("conv", (1, 6, 6), hidden=(4,), heads=HEADS),
            made("conv", (1, 6, 6), hidden=(4,), heads=HEADS, pool=("none",)),
            True,
        ),
        (
            made("conv", (1, 6, 6), hidden=(4,), heads=HEADS),
            made("conv", (1, 6, 6), hidden=(4,), heads=HEADS, size=3),
            False,
        ),
        (LSTM, made("lstm", (6,), HEADS, size=4, norm="batch"), True),
        (LSTM, made("lstm", (6,), HEADS, size=4, cell_norm="layer"), False),
        (made("leaky", (6,), HEADS, size=4), made("leaky", (6,), HEADS, size=4, rate=0.1), False),
    ],
)
def test_networks_have_one_signature_where_they_are_one_function(
    one: Network, other: Network, alike: bool
) -> None:
    assert (one.signature() == other.signature()) == alike
    assert one.stacking_obstacle() is other.stacking_obstacle() is None


# --- nature ----------------------------------------------------------------------------------------------


SMALL = {"kind": "nature", "filters": [4, 6], "sizes": [3, 2], "strides": [2, 1], "hidden": [5]}


class Rooms(gymnasium.Env[Any, Any]):
    """A picture [8, 7, 3], a map of classes, numbers, a mask of four actions, and a text that nobody can read."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (8, 7, 3), np.uint8),
            "map": spaces.MultiDiscrete(np.full((8, 7), 3)),
            "mask": spaces.MultiBinary(4),
            "mission": spaces.Text(9),
            "place": spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    action_space = spaces.Discrete(4)

    def __init__(self) -> None:
        self.observation_space = copy.deepcopy(Rooms.observation_space)

    def _shown(self) -> dict[str, Any]:
        shown = {key: space.sample() for key, space in self.observation_space.items() if key != "mission"}
        return {**shown, "mask": np.array([1, 1, 0, 1], np.int8), "mission": "walk"}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action != 2
        self.steps += 1
        return self._shown(), float(action), self.steps == 5, False, {}


antiphon.envs.register("tests/Rooms-v0", Rooms)


def rooms(network: Any = SMALL, observes: Any = ("place", "image", "map"), **agent: Any) -> Scenario:
    player = {
        "observes": list(observes),
        "network": network,
        "acts": True,
        "objective": {"kind": "ppo", "mask": "mask"},
        **agent,
    }
    env = {"id": "tests/Rooms-v0"}
    return Scenario(scenario="rooms", env=env, agents={"a": player}, training={"batch": 4})


def by_torch(parameters: dict[str, Tensor], signals: dict[str, Tensor]) -> Tensor:
    """The logits of the small network by torch's modules."""
    convolutions = nn.Conv2d(6, 4, 3, 2), nn.Conv2d(4, 6, 2, 1)
    for i, one in enumerate(convolutions):
        one.load_state_dict({key: parameters[f"conv{i}.{key}"] for key in ("weight", "bias")})
    classes = nn.functional.one_hot(signals["map"], 3).permute(0, 3, 1, 2).float()
    maps = torch.cat([signals["image"].permute(0, 3, 1, 2), classes], 1)
    for one in convolutions:
        maps = one(maps).relu()
    joined = torch.cat([maps.flatten(1), signals["place"], signals["mask"]], 1)
    hidden = (joined @ parameters["dense.0.weight"].T + parameters["dense.0.bias"]).relu()
    return hidden @ parameters["objective.weight"].T + parameters["objective.bias"]


def test_it_is_the_network_of_torchs_modules_and_masks_choices() -> None:
    with Simulation(rooms()) as simulation:
        simulation.run(steps=20, progress=False)
        assert simulation.agents["a"].updates > 0
        signals = {name: value.clone() for name, value in simulation.signals.items()}
        logits = by_torch(simulation.agents["a"].parameters, signals)
        logits[:, 2] = -torch.inf
        shown = {name: signals[name].numpy() for name in ("map", "mask", "place")}
        picture = (signals["image"] * 255).round().numpy().astype(np.uint8)
        assert np.array_equal(simulation.policy().act({**shown, "image": picture}), logits.argmax(1).numpy())


def test_its_defaults_are_those_of_mnih_et_al() -> None:
    env = antiphon.envs.from_tensors(image=torch.rand(9, 4, 84, 84), label=torch.arange(9) % 3)
    goal = {"kind": "classification", "target": "label"}
    agent = {"observes": ["image"], "network": "nature", "objective": goal}
    with Simulation(
        Scenario(scenario="s", env=env, agents={"a": agent}, training={"batch": 3})
    ) as simulation:
        simulation.run(steps=1, progress=False)
        shapes = [tuple(p.shape) for name, p in simulation.agents["a"].parameters.items() if "weight" in name]
        assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136), (3, 512)]


# --- models of the library -------------------------------------------------------------------------------


TOKENS = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))


def test_a_place_of_the_gpt_depends_on_nothing_that_follows() -> None:
    model = GPT(11, 8, blocks=2, width=12, heads=3).eval()
    changed = TOKENS.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    before, after = model(TOKENS), model(changed)
    assert before.shape == (3, 8, 11)
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=0)
    assert all((before[:, place] - after[:, place]).abs().max() > 1e-4 for place in range(5, 8))
    assert model(TOKENS[:, :4]).shape == (3, 4, 11)
