"""`Channel` in a plain torch loop: compared with a loop written out by hand, and with the simulator."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation, comms
from antiphon.scenarios import Scenario
from tests.contracts.builders import Play
from tests.kit.some import some

DOUBLE = torch.float64
SIZE, CLASSES, RATE = 4, 3, 0.05
SGD = {"kind": "linear", "optimiser": {"kind": "sgd", "lr": RATE}}
Batch = tuple[Tensor, Tensor]


# --- a loop written out, and the same loop by trainers that scale, accumulate or divide it -------------------------------


class Hand:
    """A channel written out: a linear predictor of a message and a label, and the gradients that have returned."""

    def __init__(self) -> None:
        self.weight = torch.zeros(SIZE, SIZE + CLASSES, dtype=DOUBLE)
        self.bias = torch.zeros(SIZE, dtype=DOUBLE)
        self.inputs: dict[int, Tensor] = {}
        self.returned: dict[int, Tensor] = {}

    def credit(self, number: int, message: Tensor, label: Tensor) -> Tensor:
        """What the sender follows for a message."""
        inputs = torch.cat([message.detach(), F.one_hot(label, CLASSES).double()], 1)
        self.inputs[number] = inputs
        return (message * F.linear(inputs, self.weight, self.bias)).sum() / len(message)

    def back(self, number: int, gradient: Tensor) -> None:
        """Add dL/dmessage of one loss, per sample."""
        known = self.returned.get(number, torch.zeros_like(gradient))
        self.returned[number] = known + gradient * len(gradient)

    def learn(self) -> Tensor | None:
        """Take a step of SGD on all that has come back."""
        if not self.returned:
            return None
        weight, bias = self.weight.requires_grad_(), self.bias.requires_grad_()
        losses = [
            (F.linear(self.inputs[n], weight, bias) - delta).square().sum() / len(delta)
            for n, delta in self.returned.items()
        ]
        loss = torch.stack(losses).sum()
        steps = torch.autograd.grad(loss, [weight, bias])
        self.weight, self.bias = (p.detach() - RATE * g for p, g in zip((weight, bias), steps, strict=True))
        self.returned = {}
        return loss.detach()


class Pair(nn.Module):
    """A sender and a receiver. Called with a batch, they return the loss of both ends of their channel, as a model's module does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.eye, self.mind = nn.Linear(5, SIZE).double(), nn.Linear(SIZE, CLASSES).double()
        self.channel = comms.Channel(SIZE, context={"label": CLASSES}, gradient=SGD, dtype=DOUBLE)

    def forward(self, x: Tensor, label: Tensor) -> dict[str, Tensor]:
        self.channel.send(self.eye(x), label=label)
        loss = F.cross_entropy(self.mind(self.channel.receive()), label)
        return {"loss": loss + self.channel.credit()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self(*batch)["loss"]  # type: ignore[no-any-return]

    def optimizer_step(self, optimiser: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        """Lightning's hook: `closure` runs the training step and goes back."""
        optimiser.step(closure)  # type: ignore[arg-type]
        self.channel.learn()


def batches(count: int = 24) -> list[Batch]:
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 6, 5, dtype=DOUBLE, generator=random)
    return [(x, x[:, :CLASSES].argmax(1)) for x in inputs]


def by_hand(micro: int) -> list[Tensor]:
    """The loop written out: `micro` batches a step, of whose losses the mean is learned."""
    pair, hand = Pair(), Hand()
    adam = pair.configure_optimizers()
    for number, (x, label) in enumerate(batches()):
        message = pair.eye(x)
        leaf = message.detach().requires_grad_()
        loss = F.cross_entropy(pair.mind(leaf), label)
        hand.back(number, torch.autograd.grad(loss, leaf, retain_graph=True)[0])
        ((loss + hand.credit(number, message, label)) / micro).backward()  # type: ignore[no-untyped-call]
        if (number + 1) % micro == 0:
            adam.step()
            adam.zero_grad()
            hand.learn()
    return [*pair.parameters(), hand.weight, hand.bias]


def plain(pair: Pair, micro: int) -> None:
    adam = pair.configure_optimizers()
    for number, batch in enumerate(batches()):
        (pair.training_step(batch, number) / micro).backward()  # type: ignore[no-untyped-call]
        if (number + 1) % micro == 0:
            adam.step()
            adam.zero_grad()
            pair.channel.learn()


def two_optimisers(pair: Pair, micro: int) -> None:
    """Each network goes back by itself, the receiver first or last."""
    optimisers = [torch.optim.Adam(network.parameters(), lr=0.01) for network in (pair.eye, pair.mind)]
    for number, (x, label) in enumerate(batches()):
        pair.channel.send(pair.eye(x), label=label)
        ends = [pair.channel.credit(), F.cross_entropy(pair.mind(pair.channel.receive()), label)]
        for end in ends if number % 2 else reversed(ends):
            end.backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        pair.channel.learn()


def elsewhere(pair: Pair, micro: int) -> None:
    """The receiver has a plain tensor, as in another process, and sends its gradient back."""
    adam = pair.configure_optimizers()
    for x, label in batches():
        pair.channel.send(pair.eye(x), label=label)
        received = pair.channel.receive()
        copied: Tensor = pickle.loads(pickle.dumps(received))
        F.cross_entropy(pair.mind(copied), label).backward()  # type: ignore[no-untyped-call]
        pair.channel.credit().backward()  # type: ignore[no-untyped-call]
        received.backward(copied.grad)  # type: ignore[no-untyped-call]
        adam.step()
        adam.zero_grad()
        pair.channel.learn()


def grad_scaler(pair: Pair, micro: int) -> None:
    adam, scaler = pair.configure_optimizers(), torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for number, batch in enumerate(batches()):
        scaler.scale(pair.training_step(batch, number) / micro).backward()  # type: ignore[no-untyped-call]
        if (number + 1) % micro == 0:
            scaler.step(adam)
            scaler.update()
            adam.zero_grad()
            pair.channel.learn()


def lightning(pair: Pair, micro: int) -> None:
    """As Lightning's `Trainer(accumulate_grad_batches=micro)` calls a module with automatic optimisation."""
    optimiser = pair.configure_optimizers()
    for index, batch in enumerate(batches()):

        def closure(batch: Batch = batch, index: int = index) -> Tensor:
            loss = pair.training_step(batch, index) / micro
            if index % micro == 0:
                optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        if (index + 1) % micro:
            closure()
        else:
            pair.optimizer_step(optimiser, closure)


def hugging_face(pair: Pair, micro: int) -> None:
    """As Hugging Face's `Trainer(gradient_accumulation_steps=micro)` calls a model, with a callback `on_step_end`."""
    optimiser = pair.configure_optimizers()
    rest = iter(batches())
    for group in zip(*[rest] * micro, strict=True):
        for x, label in group:
            loss = pair(x=x, label=label)["loss"]
            (loss / micro).backward()
        optimiser.step()
        pair.zero_grad()
        pair.channel.learn()


@pytest.mark.parametrize(
    ("train", "micro"),
    [
        (plain, 1),
        (plain, 4),
        (two_optimisers, 1),
        (elsewhere, 1),
        (grad_scaler, 1),
        (grad_scaler, 4),
        (lightning, 4),
        (hugging_face, 4),
    ],
)
def test_a_loop_is_the_loop_written_out_whoever_scales_it(
    train: Callable[[Pair, int], None], micro: int
) -> None:
    pair = Pair()
    train(pair, micro)
    trained, expected = [*pair.parameters(), *pair.channel.parameters()], by_hand(micro)
    assert expected[-1].abs().max() > 0.001
    for parameter, own in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter, own, atol=1e-12, rtol=0)


def test_a_batch_that_is_not_finite_moves_nothing_of_the_predictor() -> None:
    """As the first ones of a `GradScaler`, whose scale is too large by design."""
    channel = comms.Channel(SIZE, gradient={"kind": "mlp", "hidden": [4]})
    saw: list[list[Tensor]] = []
    for factor in (1.0, torch.inf, 1.0):
        channel.send(torch.randn(6, SIZE))
        ((channel.receive().square().sum() + channel.credit()) * factor).backward()
        saw.append([t.clone() for t in (*channel.parameters(), *some(channel.predictor).buffers.values())])
        loss = some(channel.learn())
        assert bool(loss.isfinite()) == (factor == 1)
    assert all(torch.equal(before, after) for before, after in zip(*saw[1:], strict=True))
    assert some(channel.predictor).updates == 2


Reads = Sequence[Sequence[int]]
SCHEDULES: dict[str, Callable[[int], Reads]] = {
    "at once": lambda t: [[t]],
    "one behind": lambda t: [[t - 1]] if t else [],
    "four behind": lambda t: [[t - 4]] if t >= 4 else [],
    "every third, and late": lambda t: [[t - 2]] if t >= 2 and t % 3 == 0 else [],
    "two receivers, both late": lambda t: [[t - 2], [t - 2]] if t >= 2 else [],
    "three messages in one loss": lambda t: [[t - 2, t - 1, t]] if t % 3 == 2 else [],
    "the newest first": lambda t: [[t], [t - 1]] if t % 2 else [],
    "none in the first rounds": lambda t: [[t]] if t > 4 else [],
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_predictor_learns_the_gradient_of_the_message_that_was_read(name: str, every: int) -> None:
    pair, hand, kept = Pair(), Hand(), dict[int, Tensor]()
    for t, (x, label) in enumerate(batches(18)):
        x, label = x[: 3 + t % 3], label[: 3 + t % 3]
        message = pair.eye(x)
        (expected,) = torch.autograd.grad(hand.credit(t, message, label), pair.eye.weight, retain_graph=True)
        pair.channel.send(message, label=label)
        kept[t] = pair.channel.receive()
        pair.channel.credit().backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(pair.eye.weight.grad, expected, atol=1e-12, rtol=0)
        for numbers in SCHEDULES[name](t):
            leaves = [kept[n].detach().requires_grad_() for n in numbers]
            for number, gradient in zip(
                numbers, torch.autograd.grad(_loss(pair, leaves), leaves), strict=True
            ):
                hand.back(number, gradient)
            _loss(pair, [kept[n] for n in numbers]).backward()  # type: ignore[no-untyped-call]
        if (t + 1) % every == 0:
            loss, by_hand = pair.channel.learn(), hand.learn()
            assert (loss is None) == (by_hand is None)
            if by_hand is not None:
                torch.testing.assert_close(loss, by_hand, atol=1e-12, rtol=0)
        pair.zero_grad()
        for own, p in zip((hand.weight, hand.bias), pair.channel.parameters(), strict=True):
            torch.testing.assert_close(p.detach(), own, atol=1e-12, rtol=0)
    assert hand.weight.abs().max() > 0.001


def _loss(pair: Pair, messages: Sequence[Tensor]) -> Tensor:
    return torch.stack([pair.mind(m).square().mean() for m in messages]).sum()


# --- the simulator -------------------------------------------------------------------------------------------------


class Kept(Play):
    """A source whose environments can be looked at."""

    def make(self, **where: Any) -> Any:
        self.__dict__["made"] = super().make(**where)
        return self.__dict__["made"]


def chain(source: Kept, gradient: dict[str, Any], coupling: str, names: str) -> Simulation:
    """Hidden layers and a classifier."""
    layer = {"kind": "mlp", "hidden": [12], "norm": "batch"}
    agents: dict[str, Any] = {name: {"network": layer} for name in names[:-1]}
    agents[names[0]]["observes"] = ["x"]
    agents["d"] = {"network": {"hidden": []}, "objective": {"kind": "classification", "target": "label"}}
    scenario = {
        "scenario": "chain",
        "env": source,
        "agents": agents,
        "channels": [
            {"from": s, "to": r, "coupling": coupling, "gradient": {"context": ["label"], **gradient}}
            for s, r in itertools.pairwise(names)
        ],
        "training": {"batch": 8, "steps": 100, "optimiser": {"kind": "adam", "lr": 0.003}},
    }
    return Simulation(Scenario.model_validate(scenario), dtype=DOUBLE)


def layers_of(simulation: Simulation, names: str) -> list[nn.Sequential]:
    """The agents as plain torch layers in training mode, with the same numbers."""
    layers = []
    for name in names:
        numbers = simulation.agents[name].parameters
        place = "objective" if name == "d" else "0"
        of_place = {
            key: numbers[f"{place}.{key}"] for key in ("weight", "bias") if f"{place}.{key}" in numbers
        }
        inputs, outputs = reversed(of_place["weight"].shape)
        linear = nn.Linear(inputs, outputs, bias="bias" in of_place, dtype=DOUBLE)
        linear.load_state_dict(of_place)
        hidden = [] if name == "d" else [nn.BatchNorm1d(12, dtype=DOUBLE), nn.ReLU()]
        layers.append(nn.Sequential(linear, *hidden))
    return layers


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("gradient", "coupling", "names"),
    [
        ({"scale": 0.25, "discount": 0.25}, "decoupled", "abcd"),
        ({"kind": "local", "target": "label"}, "decoupled", "abcd"),
        ({"kind": "sobolev_label", "target": "label"}, "decoupled", "abcd"),
        ({"kind": "sobolev", "hidden": [6]}, "decoupled", "ad"),
        ({}, "detached", "abcd"),
    ],
)
def test_a_loop_of_channels_equals_the_simulation(
    gradient: dict[str, Any], coupling: str, names: str
) -> None:
    source = Kept()
    simulation = chain(source, gradient, coupling, names)
    layers = layers_of(simulation, names)
    optimisers = [torch.optim.Adam(layer.parameters(), lr=0.003, fused=True) for layer in layers]
    gradient = {key: value for key, value in gradient.items() if key != "discount"}
    settings: dict[str, Any] = {"context": {"label": 3}, "coupling": coupling, "dtype": DOUBLE}
    if "kind" in gradient:  # the default has no rate
        settings["lr"] = 0.003
    channels = [
        comms.Channel(12, gradient=gradient, name=f"{s}->{r}", **settings)
        for s, r in itertools.pairwise(names)
    ]
    for _ in range(12):
        seen, info = source.__dict__["made"]._shown()  # what the next step is about
        h, label = seen["x"], info["label"]
        for layer, channel in zip(layers, channels, strict=False):
            channel.send(layer(h), label=label)
            h = channel.receive()
        each = F.cross_entropy(layers[-1](h), label, reduction="none")
        torch.stack([each.mean(), *(channel.credit() for channel in channels)]).sum().backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        losses = [channel.learn(each if gradient.get("kind") == "sobolev" else None) for channel in channels]
        simulation.step()
        assert {loss is not None for loss in losses} == {coupling == "decoupled"}
    for name, layer in zip(names, layers, strict=True):
        agent = simulation.agents[name]
        for p, q in zip(agent.parameters.values(), layer.parameters(), strict=True):
            torch.testing.assert_close(p.data, q.data, atol=1e-10, rtol=0, check_stride=False)
        running = [b for key, b in layer.named_buffers() if "running" in key]
        torch.testing.assert_close(list(agent.buffers.values()), running, atol=1e-10, rtol=0)
    for channel, built in zip(channels, simulation.channels.values(), strict=True):
        model = built.synthetic_gradient
        expected = {} if model is None else dict(model.parameters)
        saved = channel.state_dict().get("parameters", {})
        assert saved.keys() == expected.keys()
        for key, p in expected.items():
            torch.testing.assert_close(p.data, saved[key].data, atol=1e-10, rtol=0)


# --- couplings, types, contexts, states --------------------------------------------------------------------------------


def test_a_locked_channel_is_backpropagation_and_a_detached_one_returns_nothing() -> None:
    below, above = nn.Linear(5, 4), nn.Linear(4, 3)
    x, label = torch.randn(8, 5), torch.randint(3, (8,))
    for coupling in ("locked", "detached"):
        channel = comms.Channel(4, coupling=coupling, context={"label": 3})
        channel.send(below(x), label=label)
        loss = F.cross_entropy(above(channel.receive()), label)
        (loss + channel.credit()).backward()  # type: ignore[no-untyped-call]
        assert channel.learn() is None
        assert channel.state_dict() == {}
        if coupling == "locked":
            expected = torch.autograd.grad(F.cross_entropy(above(below(x)), label), below.weight)[0]
            torch.testing.assert_close(below.weight.grad, expected)
        else:
            assert below.weight.grad is None
        below.zero_grad()


def step(channel: comms.Channel, number: int) -> Tensor:
    """Send, receive and learn once, and return what the sender followed."""
    random = torch.Generator().manual_seed(number)
    message = torch.randn(8, SIZE, generator=random).requires_grad_()
    label = torch.randint(3, (8,), generator=random)
    channel.send(message * 1.0, label=label)
    loss = F.cross_entropy(channel.receive()[:, :3], label)
    (loss + channel.credit()).backward()  # type: ignore[no-untyped-call]
    channel.learn()
    return some(message.grad)


KINDS: dict[str, Any] = {
    "linear": "linear",
    "normed": {"kind": "mlp", "hidden": [6]},
    "a module": lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs)),
    "a class of an optimiser": {"kind": "linear", "optimiser": {"kind": torch.optim.RMSprop, "alpha": 0.8}},
    "closed form": "ridge",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_was_loaded_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, other = (
        comms.Channel(SIZE, gradient=KINDS[kind], context={"label": 3}, seed=seed) for seed in (0, 1)
    )
    for number in range(4):
        step(whole, number)
    torch.save(whole.state_dict(), tmp_path / "up.pt")
    step(other, 9)
    other.load_state_dict(torch.load(tmp_path / "up.pt", weights_only=True))
    for number in range(4, 8):
        assert torch.equal(step(whole, number), step(other, number))
    for mine, theirs in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
