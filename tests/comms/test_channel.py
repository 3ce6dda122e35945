"""`Channel` and `learn` in a plain torch loop: equal to the simulator, and clear about misuse."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon import Simulation, comms
from antiphon.comms.couplings import COUPLINGS
from antiphon.comms.loop.loop_channel import transit_of
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.builders import Play
from tests.kit.batch_norm import drop_lost_biases, without_lost_biases
from tests.kit.some import some

DOUBLE = torch.float64
NAMES = "abcd"


class Kept(Play):
    """A source whose environments can be looked at."""

    def make(self, **where: Any) -> Any:
        self.__dict__["made"] = super().make(**where)
        return self.__dict__["made"]


def chain(source: Kept, gradient: dict[str, Any], coupling: str) -> Simulation:
    """Three hidden layers and a classifier."""
    layer = {"kind": "mlp", "hidden": [12], "norm": "batch"}
    agents: dict[str, Any] = {name: {"network": layer} for name in "abc"}
    agents["a"]["observes"] = ["x"]
    agents["d"] = {"network": {"hidden": []}, "objective": {"kind": "classification", "target": "label"}}
    scenario = {
        "scenario": "chain",
        "env": source,
        "agents": agents,
        "channels": [
            {"from": s, "to": r, "coupling": coupling, "gradient": {"context": ["label"], **gradient}}
            for s, r in itertools.pairwise(NAMES)
        ],
        "training": {"batch": 8, "steps": 100, "optimiser": {"kind": "adam", "lr": 0.003}},
    }
    return Simulation(Scenario.model_validate(scenario), dtype=DOUBLE)


def layers_of(simulation: Simulation) -> list[nn.Sequential]:
    """The agents as plain torch layers in training mode, with the same numbers."""
    layers = []
    for name in NAMES:
        numbers = simulation.agents[name].parameters
        place = "objective" if name == "d" else "0"
        linear = nn.Linear(*reversed(numbers[f"{place}.weight"].shape), dtype=DOUBLE)
        with torch.no_grad():
            linear.weight.copy_(numbers[f"{place}.weight"])
            linear.bias.copy_(numbers[f"{place}.bias"])
        hidden = [] if name == "d" else [nn.BatchNorm1d(12, dtype=DOUBLE), nn.ReLU()]
        layers.append(nn.Sequential(linear, *hidden))
        drop_lost_biases(layers[-1])
    return layers


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("gradient", "coupling"),
    [
        ({"scale": 0.25}, "decoupled"),
        ({"kind": "local", "target": "label"}, "decoupled"),
        ({"kind": "sobolev", "hidden": [6], "discount": 0.5}, "decoupled"),
        ({"kind": "sobolev_label", "target": "label"}, "decoupled"),
        ({"scale": 0, "discount": 0}, "decoupled"),
        ({}, "detached"),
    ],
)
def test_a_loop_of_channels_equals_the_simulation(gradient: dict[str, Any], coupling: str) -> None:
    source = Kept()
    simulation = chain(source, gradient, coupling)
    layers = layers_of(simulation)
    optimisers = [torch.optim.Adam(layer.parameters(), lr=0.003, fused=True) for layer in layers]
    settings: dict[str, Any] = {"context": {"label": 3}, "coupling": coupling, "lr": 0.003, "dtype": DOUBLE}
    channels = [
        comms.Channel(12, gradient=gradient, name=f"{s}->{r}", **settings)
        for s, r in itertools.pairwise(NAMES)
    ]
    for _ in range(12):
        seen, info = source.__dict__["made"]._shown()  # what the next step is about
        h, label = seen["x"], info["label"]
        for layer, channel in zip(layers, channels, strict=False):
            channel.send(layer(h), label=label)
            h = channel.receive()
        each = F.cross_entropy(layers[-1](h), label, reduction="none")
        for i, layer in enumerate(layers):
            objective = each if i == 3 else None
            comms.learn(
                objective, layer.parameters(), sent=channels[i : i + 1], received=channels[max(i - 1, 0) : i]
            )
        for optimiser in optimisers:
            optimiser.step()
        losses = [channel.learn() for channel in channels]
        simulation.step()
        assert [loss is not None for loss in losses] == [coupling == "decoupled"] * 3
    for name, layer in zip(NAMES, layers, strict=True):
        agent = simulation.agents[name]
        parameters, statistics = without_lost_biases(agent.parameters, agent.buffers)
        for p, q in zip(parameters, layer.parameters(), strict=True):
            torch.testing.assert_close(p, q.data, atol=1e-10, rtol=0, check_stride=False)
        running = [b for key, b in layer.named_buffers() if "running" in key]
        torch.testing.assert_close(statistics, running, atol=1e-10, rtol=0)
    for channel, built in zip(channels, simulation.channels.values(), strict=True):
        model = built.synthetic_gradient
        expected = {} if model is None else dict(model.parameters)
        saved = channel.state_dict().get("parameters", {})
        assert saved.keys() == expected.keys()
        for key, p in expected.items():
            torch.testing.assert_close(p.data, saved[key], atol=1e-10, rtol=0)


def test_a_locked_channel_is_backpropagation() -> None:
    below, above = nn.Linear(5, 4), nn.Linear(4, 3)
    channel = comms.Channel(4, coupling="locked", context={"label": 3})
    x, label = torch.randn(8, 5), torch.randint(3, (8,))
    channel.send(below(x), label=label)
    loss = F.cross_entropy(above(channel.receive()), label)
    parameters = [*below.parameters(), *above.parameters()]
    with pytest.raises(ScenarioError, match=r"^channel: it is locked.* both sent and received"):
        comms.learn(loss, above.parameters(), received=[channel])
    comms.learn(loss, parameters, sent=[channel], received=[channel])
    assert channel.learn() is None
    found = [p.grad for p in parameters]
    expected = torch.autograd.grad(F.cross_entropy(above(below(x)), label), parameters)
    torch.testing.assert_close(found, expected)


class Pair:
    """A sender, a channel and a receiver that has trained its predictor a little."""

    def __init__(self, steps: int = 5, **settings: Any) -> None:
        torch.manual_seed(0)
        self.below, self.above = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()
        self.channel = comms.Channel(4, context={"label": 3}, lr=0.1, dtype=DOUBLE, **settings)
        for x, label in self.batches(steps):
            self.forward(x, label)
            self.channel.learn()

    @staticmethod
    def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(count):
            yield torch.randn(8, 5, dtype=DOUBLE), torch.randint(3, (8,))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Send, receive, let the receiver learn; return the message."""
        message: Tensor = self.below(x)
        self.channel.send(message, label=label)
        losses = F.cross_entropy(self.above(self.channel.receive()), label, reduction="none")
        comms.learn(losses, self.above.parameters(), received=[self.channel])
        return message


@pytest.mark.parametrize("kind", ["linear", "mlp", "sobolev_label"])
def test_the_order_in_which_networks_and_channels_learn_does_not_matter(kind: str) -> None:
    gradient = {"kind": kind, **({"target": "label"} if kind in ("local", "sobolev_label") else {})}
    found = []
    for channel_first in (False, True):
        pair = Pair(gradient=gradient)
        transit_of(pair.channel).injections.clear()
        x, label = next(pair.batches(1))
        pair.forward(x, label)
        if channel_first:
            pair.channel.learn()
        comms.learn(None, pair.below.parameters(), sent=[pair.channel])
        if not channel_first:
            pair.channel.learn()
        assert pair.below.weight.grad is not None
        assert pair.below.weight.grad.abs().max() > 0
        found.append([pair.below.weight.grad, *pair.channel.parameters()])
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


def test_the_injected_gradient_is_the_scaled_prediction() -> None:
    pair = Pair(gradient={"scale": 0.5})
    transit_of(pair.channel).injections.clear()
    x, label = next(pair.batches(1))
    message = pair.forward(x, label)
    weight, bias = pair.channel.state_dict()["parameters"].values()
    said = F.linear(torch.cat([message.detach(), F.one_hot(label, 3).double()], 1), weight, bias)
    (expected,) = torch.autograd.grad((message * said * 0.5).sum() / 8, pair.below.weight, retain_graph=True)
    comms.learn(None, pair.below.parameters(), sent=[pair.channel])
    torch.testing.assert_close(pair.below.weight.grad, expected)


def test_an_untrained_channel_injects_nothing_and_shows_how_alike_its_gradients_are() -> None:
    pair = Pair(steps=0)
    assert pair.channel.alignment() is None
    x, label = next(pair.batches(1))
    pair.forward(x, label)
    comms.learn(None, pair.below.parameters(), sent=[pair.channel])
    assert pair.below.weight.grad is not None
    assert torch.equal(pair.below.weight.grad, torch.zeros(4, 5, dtype=DOUBLE))
    assert pair.channel.learn() is not None
    found = some(pair.channel.alignment())
    assert found["norm_ratio"] == 0
    assert pair.channel.learn() is None, "it has learned from everything"


def test_several_messages_of_a_window_are_learned_from_together() -> None:
    pair = Pair(steps=0)
    batches = list(pair.batches(3))
    losses = []
    for x, label in batches:
        pair.channel.send(pair.below(x), label=label)
        losses.append(F.cross_entropy(pair.above(pair.channel.receive()), label))
    comms.learn(torch.stack(losses).sum(), pair.above.parameters(), received=[pair.channel])
    total = pair.channel.learn()
    each_returned = []
    for x, label in batches:
        leaf = pair.below(x).detach().requires_grad_()
        each_returned.append(torch.autograd.grad(F.cross_entropy(pair.above(leaf), label) * 8, leaf)[0])
    assert total is not None
    torch.testing.assert_close(total, sum(d.square().sum() / 8 for d in each_returned))


def test_what_comes_back_once_the_predictor_has_moved_is_compared_with_its_present_prediction() -> None:
    found = []
    for sent_before in (True, False):
        pair = Pair()
        (x, label), (other, second) = pair.batches(2)
        pair.forward(x, label)
        if not sent_before:
            pair.channel.learn()
        pair.channel.send(pair.below(other), label=second)
        if sent_before:
            pair.channel.learn()
        losses = F.cross_entropy(pair.above(pair.channel.receive()), second, reduction="none")
        comms.learn(losses, pair.above.parameters(), received=[pair.channel])
        loss = pair.channel.learn()
        found.append([some(loss), *pair.channel.parameters()])
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


def test_all_uses_of_a_message_meet_on_it_and_an_unread_one_is_void() -> None:
    pair = Pair(steps=0)
    (x, label), (other, _) = pair.batches(2)
    pair.channel.send(pair.below(other), label=label)
    pair.channel.send(pair.below(x), label=label)
    assert pair.channel.receive() is pair.channel.receive()
    assert pair.channel.receive().is_leaf, "it is cut from its sender"
    for _ in range(2):
        loss = F.cross_entropy(pair.above(pair.channel.receive()), label)
        comms.learn(loss, pair.above.parameters(), received=[pair.channel])
    leaf = pair.below(x).detach().requires_grad_()
    returned = torch.autograd.grad(F.cross_entropy(pair.above(leaf), label) * 8, leaf)[0]
    total = some(pair.channel.learn())
    torch.testing.assert_close(total, (2 * returned).square().sum() / 8)


def test_nothing_is_kept_under_no_grad() -> None:
    pair = Pair()
    transit_of(pair.channel).injections.clear()
    x, label = next(pair.batches(1))
    with torch.no_grad():
        message = pair.below(x)
        pair.channel.send(message, label=label)
        assert torch.equal(pair.channel.receive(), message)
    assert pair.channel.learn() is None
    comms.learn(None, pair.below.parameters(), sent=[pair.channel])
    assert pair.below.weight.grad is None


CONV, LOCAL = {"kind": "conv"}, {"kind": "local", "target": "label"}


class Cut(nn.Linear):
    """A linear map without its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"size": 0}, "size: 0 is not a number of components; use 1 or more"),
    ({"size": []}, "size: [] is not a number of components"),
    ({"size": [1, 2, 2, 2, 2]}, "size: [1, 2, 2, 2, 2] has 5 axes; use up to four"),
    ({"size": 4.5}, "size: 4.5 is not a number of components"),
    ({"size": "4"}, "size: '4' is not a number of components"),
    ({"size": True}, "size: True is not a number of components"),
    ({"dtype": "float64"}, "dtype: 'float64' is no type of floats; use torch.float32 or torch.float64"),
    ({"device": "tpu9"}, "device: no device 'tpu9'; known: cpu"),
    ({"lr": -1.0}, "lr: -1.0 is not a learning rate; use a number of 0 or more"),
    ({"lr": True}, "lr: True is not a learning rate"),
    ({"lr": "fast"}, "lr: 'fast' is not a learning rate"),
    ({"lr": torch.zeros(2)}, "lr: tensor([0., 0.]) is not a learning rate"),
    ({"seed": "fast"}, "seed: 'fast'; must be a whole number, at least 0"),
    ({"seed": torch.zeros(2)}, "seed: tensor([0., 0.]); must be a whole number, at least 0"),
    (
        {"context": {"label": "x"}},
        "context: 'label' is 'x'; use a number of classes, the shape of one sample",
    ),
    ({"context": {"label": True}}, "context: 'label' is True; use a number of classes"),
    ({"context": {"label": 0}}, "context: 'label' is 0; use a number of classes"),
    ({"context": {"label": ((2, 0), 3)}}, "context: 'label' is ((2, 0), 3); use a number of classes"),
    (
        {"context": {"message": 3}},
        "context: 'message' cannot name a signal in send(message, NAME=…); use another name",
    ),
    ({"context": {"self": 3}}, "context: 'self' cannot name a signal"),
    ({"context": {"": 3}}, "context: '' cannot name a signal"),
    ({"context": {1: 3}}, "context: 1 cannot name a signal"),
    ({"context": ["label"]}, "context: is ['label']; give classes or shape by name: {'label': 10}"),
    ({"context": "digit"}, "context: is the word 'digit'; give classes or shape by name: {'digit': 10}"),
    ({"coupling": "lockt"}, "coupling: there is no 'lockt'; did you mean 'locked'?"),
    (
        {"coupling": {"kind": "decoupled"}},
        "coupling: is a name in a loop, without keys; write coupling='decoupled'",
    ),
    (
        {"coupling": "delayed"},
        "coupling: 'delayed' keeps the sender's window open, for which a scenario is needed",
    ),
    ({"coupling": "unlocked"}, "coupling: 'unlocked' has a synthetic input, for which a scenario is needed"),
    ({"coupling": "mlp"}, "coupling: 'mlp' is a kind of gradient; write gradient='mlp'"),
    (
        {"coupling": "local"},
        "coupling: 'local' is a kind of gradient; write gradient={'kind': 'local', 'target': 'TARGET'}, with TARGET",
    ),
    ({"gradient": "linaer"}, "gradient.kind: unknown kind 'linaer'; did you mean 'linear'?"),
    ({"gradient": {"scales": 1.0}}, "gradient.scales: unknown key 'scales'; did you mean 'scale'?"),
    (
        {"gradient": {"optimiser": {"rate": 1}}},
        "gradient.optimiser.rate: unknown key 'rate'; known: clip, kind",
    ),
    (
        {"coupling": {"kind": "local"}},
        "coupling: 'local' is a kind of gradient; write gradient={'kind': 'local', ",
    ),
    ({"coupling": ["mlp"]}, "coupling: 'mlp' is a kind of gradient; write gradient='mlp'"),
    (
        {"gradient": LOCAL, "context": None},
        "gradient.target: there is no 'label'; give context={'label': CLASSES}",
    ),
    ({"gradient": "local"}, "gradient.target: is missing; a local gradient needs it: the target signal of "),
    ({"gradient": {**LOCAL, "target": "lable"}}, "gradient.target: there is no 'lable'; did you mean"),
    ({"gradient": {"kind": "mlp", "hidden": ()}}, "gradient.hidden: must be a list of at least 1, not []"),
    ({"gradient": "conv", "size": [2, 3]}, "size: a conv gradient reads maps [channels, height, width]"),
    ({"gradient": {**CONV, "size": 4}, "size": [1, 4, 4]}, "gradient.size: 4 is even and cannot be"),
    ({"gradient": {"sites": True}}, "gradient.sites: a message of 4 components has no sites; give it"),
    (
        {"gradient": {**CONV, "sites": True}, "size": [1, 4, 4]},
        "gradient.sites: conv has no sites; leave it out, or use linear",
    ),
    ({"gradient": {**LOCAL, "pool": "max"}}, "gradient.pool: unknown pool 'max'"),
    ({"gradient": {**LOCAL, "pool": "mean"}}, "gradient.pool: messages of [4] have no sites to pool"),
    ({"gradient": {**LOCAL, "network": nn.Linear(7, 3)}}, "gradient.network: Linear does not take inputs of"),
    (
        {"gradient": {**LOCAL, "network": nn.Linear(4, 5)}},
        "gradient.network: Linear turns [2, 4] into [2, 5]",
    ),
    (
        {"gradient": {**LOCAL, "network": Cut(4, 3)}},
        "gradient.network: Cut returns numbers without a gradient, so nothing is learned from its loss",
    ),
    ({"gradient": {**LOCAL, "kind": "lens"}}, "gradient.network: a lens needs layers from the message to"),
]


@pytest.mark.parametrize("name", [5, "", " ", "a\nb"])
def test_the_name_of_a_channel_is_a_word_of_one_line(name: Any) -> None:
    with pytest.raises(ScenarioError) as refused:
        comms.Channel(4, name=name)
    assert str(refused.value) == f"Channel: name={name!r}; must be a word, such as 'layer.1' or 'a->b:key'"


@pytest.mark.parametrize("name", ["layer.1", "eye-1->b:left", "a:b:c", "a/b", "left eye"])
def test_a_channel_has_any_name_that_a_line_can_show(name: str) -> None:
    assert comms.Channel(4, name=name).name == name


@pytest.mark.parametrize(("settings", "line"), REFUSED)
def test_settings_that_cannot_be_are_refused_in_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        comms.Channel(**{"size": 4, "name": "up", "context": {"label": 3}, **settings})
    assert str(refused.value).startswith(f"channel up: {line}")
    assert "\n" not in str(refused.value)


class Halved(comms.Coupling):
    """Half of the prediction."""

    predicts = True

    def credit(self, message: comms.CreditedMessage, step: int) -> Tensor | None:
        prediction = message.applied_prediction
        return None if prediction is None else prediction / 2


class Returned(comms.Coupling):
    """The returned gradient, if it is back; it does not wait."""

    uses_returned = True

    def credit(self, message: comms.CreditedMessage, step: int) -> Tensor | None:
        return message.returned_gradient


class Unread(comms.Coupling):
    """No gradient, and no message that counts."""

    def read_kind(self, *, same_window: bool, is_state: bool) -> comms.ReadKind:
        return comms.ReadKind.CONSTANT


@pytest.mark.parametrize(("own", "method"), [(Halved, "credit"), (Returned, "credit"), (Unread, "read_kind")])
@pytest.mark.parametrize("given", ["class", "object", "keys", "registered", "built in"])
def test_a_coupling_that_a_loop_does_not_carry_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, own: type[comms.Coupling], method: str, given: str
) -> None:
    name = own.__name__.lower()
    coupling: Any = {"class": own, "object": own(), "keys": {"kind": own}}.get(given, name)
    if given == "registered":
        antiphon.register("coupling", name, own)
    if given == "built in":
        monkeypatch.setitem(COUPLINGS, name, own())
    shown = repr(name) if given in ("registered", "built in") else own.__name__
    fix = "for which a scenario is needed (antiphon.Simulation); use decoupled, detached, locked"
    with pytest.raises(ScenarioError) as refused:
        comms.Channel(4, name="up", coupling=coupling)
    assert (
        str(refused.value) == f"channel up: coupling: {shown} has a `{method}` that loops do not call, {fix}"
    )


@pytest.mark.parametrize(
    ("count", "fix"),
    [
        (0, ": a GPU is called 'cuda'; torch finds no GPU on this machine, use 'cpu'"),
        (1, "; did you mean 'cuda'?"),
    ],
)
def test_a_gpu_by_another_name_is_told_of_cuda(monkeypatch: pytest.MonkeyPatch, count: int, fix: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ScenarioError) as refused:
        comms.Channel(4, name="up", device="gpu")
    assert str(refused.value) == f"channel up: device: no device 'gpu'{fix}"


@pytest.mark.parametrize(
    ("message", "context", "line"),
    [
        (torch.zeros(8, 5), {}, "message: [8, 5] is not [batch, 4]"),
        (torch.zeros(8, 4).double(), {}, "message: it is torch.float64, but the channel is torch.float32"),
        (torch.zeros(8, 4), {}, "context: 'label' is missing; pass label= to send"),
        (torch.zeros(8, 4).numpy(), {}, "message: it is of type ndarray; pass a tensor"),
        (torch.zeros(0, 4), {}, "message: [0, 4] has no samples"),
        (
            torch.zeros(8, 4, device="meta"),
            {},
            "message: it is on meta, but the channel is on cpu; pass the channel",
        ),
        (torch.zeros(8, 4), {"label": [0] * 8}, "context: 'label' is of type list; pass a tensor"),
        (
            torch.zeros(8, 4),
            {"label": torch.tensor(1)},
            "context: 'label' has no rows, but the message has 8",
        ),
        (
            torch.zeros(8, 4),
            {"label": torch.zeros(8)},
            "context: 'label' is float32; pass integers from 0 to 2",
        ),
        (
            torch.zeros(8, 4),
            {"label": torch.arange(8)},
            "context: 'label' has the value 7, but 3 classes; pass",
        ),
        (
            torch.zeros(8, 4),
            {"label": -torch.arange(8)},
            "context: 'label' has the value -7, but 3 classes; pass",
        ),
        (
            torch.zeros(8, 4),
            {"label": torch.zeros(8, 2).long()},
            "context: 'label' is [8, 2], but the channel was made for [batch]; reshape it, or change context",
        ),
        (
            torch.zeros(8, 4),
            {"label": torch.zeros(8, device="meta").long()},
            "context: 'label' is on meta, but the message is on cpu; move it there",
        ),
        (torch.zeros(8, 4), {"lable": torch.zeros(8)}, "context: no signal 'lable'; did you mean"),
        (
            torch.zeros(8, 4),
            {"label": torch.zeros(3)},
            "context: 'label' has 3 rows, but the message has 8; use the same",
        ),
    ],
)
def test_messages_that_do_not_fit_are_refused(message: Tensor, context: dict[str, Tensor], line: str) -> None:
    channel = comms.Channel(4, context={"label": 3}, name="up")
    with pytest.raises(ScenarioError) as refused:
        channel.send(message, **context)
    assert str(refused.value).startswith(f"channel up: {line}")


@pytest.mark.parametrize("coupling", ["decoupled", "locked", "detached"])
def test_messages_of_autocast_are_those_that_are_converted_by_hand(coupling: str) -> None:
    found = []
    for converted in (lambda message: message, Tensor.float):
        torch.manual_seed(0)
        below, above, x, label = nn.Linear(5, 4), nn.Linear(4, 3), torch.randn(8, 5), torch.arange(8) % 3
        both, channel = (
            [*below.parameters(), *above.parameters()],
            comms.Channel(4, coupling=coupling, lr=0.1),
        )
        sgd = torch.optim.SGD(both, 0.1)
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                channel.send(converted(below(x)))
                loss = F.cross_entropy(above(channel.receive()), label)
            comms.learn(loss, both, sent=[channel], received=[channel])
            sgd.step()
            channel.learn()
        found.append([channel.receive(), *both, *channel.parameters()])
    assert all(one.dtype is torch.float32 for one in found[0])
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int64])
def test_a_context_is_read_in_any_type_of_integers_and_is_a_copy(dtype: torch.dtype) -> None:
    memory, label, found = torch.rand(8, 2), torch.arange(8).unsqueeze(1).to(dtype) % 3, []
    for write in (False, True):
        channel = comms.Channel(4, context={"label": 3, "state": (2,)}, name="up")
        state = memory.clone()
        channel.send(torch.ones(8, 4), label=label, state=state)
        if write:  # an environment's memory, say
            state.zero_()
        comms.learn(channel.receive().square().sum(), [], received=[channel])
        found.append([some(channel.learn()), *channel.parameters()])
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


def test_a_predictor_of_the_users_that_fails_is_named() -> None:
    class Fails(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.zeros(2, 4)

    channel = comms.Channel(4, gradient=Fails, name="up")
    with pytest.raises(
        ScenarioError, match=r"channel up: gradient: Fails fails: The size of tensor a \(8\) must"
    ):
        channel.send(torch.zeros(8, 4))


def test_a_predictor_with_a_rate_of_zero_stays() -> None:
    channel = comms.Channel(4, gradient={"kind": "linear", "optimiser": {"kind": "sgd", "lr": 0}})
    channel.send(torch.ones(2, 4))
    comms.learn(channel.receive().sum(), [], received=[channel])
    assert some(channel.learn()) > 0
    assert all(not p.any() for p in channel.parameters())


def test_misuse_of_learn_and_receive_is_told() -> None:
    with pytest.raises(ScenarioError, match="channel up: no message has been sent; call send before receive"):
        comms.Channel(4, name="up").receive()
    with pytest.raises(
        ScenarioError, match=r"learn: the objective is \[8, 3\]; pass its mean over the batch, or one"
    ):
        comms.learn(torch.zeros(8, 3), [])


def test_a_parameter_that_nothing_reaches_beside_others_has_no_gradient() -> None:
    a, b, idle = (nn.Parameter(torch.ones(2)) for _ in range(3))
    comms.learn((a + b).sum(), [a, b, idle])
    assert idle.grad is None
    some(a.grad).mul_(0)
    assert torch.equal(some(b.grad), torch.ones(2)), "each has its own"
    comms.learn(None, [idle])
    assert idle.grad is None
