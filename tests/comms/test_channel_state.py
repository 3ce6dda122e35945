"""What a channel of one's own loop has learned: its parameters, saved and loaded; and predictors of a user's in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation, comms
from antiphon.errors import ScenarioError, ScenarioWarning
from antiphon.scenarios import Scenario

BATCH, SIZE = 8, 4
KINDS: dict[str, Any] = {
    "linear": "linear",
    "normed": {"kind": "mlp", "hidden": [6]},
    "a module": lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs)),
    "a class of an optimiser": {"optimiser": {"kind": torch.optim.RMSprop, "alpha": 0.8}},
}


def channel_of(kind: Any, **settings: Any) -> comms.Channel:
    return comms.Channel(SIZE, gradient=kind, context={"label": 3}, lr=0.01, name="up", **settings)


def step(channel: comms.Channel, number: int) -> Tensor:
    """Send, receive and learn once, and return what the sender followed."""
    random = torch.Generator().manual_seed(number)
    message = torch.randn(BATCH, SIZE, generator=random).requires_grad_()
    label = torch.randint(3, (BATCH,), generator=random)
    channel.send(message * 1.0, label=label)
    loss = F.cross_entropy(channel.receive()[:, :3], label)
    comms.learn(None, [message], sent=[channel])
    comms.learn(loss, [], received=[channel])
    channel.learn()
    assert message.grad is not None
    return message.grad


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_was_loaded_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, other = channel_of(KINDS[kind]), channel_of(KINDS[kind], seed=1)
    for number in range(4):
        step(whole, number)
    state = whole.state_dict()
    torch.save(state, tmp_path / "up.pt")
    step(other, 9)
    other.send(torch.ones(BATCH, SIZE), label=torch.zeros(BATCH, dtype=torch.int64))
    other.receive()  # which the loaded state drops
    other.load_state_dict(torch.load(tmp_path / "up.pt", weights_only=True))
    for number in range(4, 8):
        assert torch.equal(step(whole, number), step(other, number))
    for mine, theirs in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    saved = torch.load(tmp_path / "up.pt", weights_only=True)["parameters"]
    assert all(torch.equal(value, saved[key]) for key, value in state["parameters"].items()), "a copy"


def test_the_state_of_another_channel_is_refused_in_one_line() -> None:
    line = r"channel up: state: parameters 'last.weight' is \[5, 8\], but the channel needs \[4, 7\]"
    with pytest.raises(ScenarioError, match=line):
        channel_of("linear").load_state_dict(comms.Channel(5, context={"label": 3}).state_dict())
    with pytest.raises(ScenarioError, match=r"parameters 'last.weight' is None"):
        channel_of("linear").load_state_dict({})


ADAM = r"\['mean', 'square', 'steps'\]"


@pytest.mark.parametrize(
    ("saved", "loading", "line"),
    [
        ("adam", "sgd", rf"has {ADAM}, but the channel needs \[\]"),
        ("sgd", "adam", rf"has \[\], but the channel needs {ADAM}"),
        ("RMSprop", "adam", rf"has \['torch'\], but the channel needs {ADAM}"),
        ("adam", "RMSprop", rf"has {ADAM}, but the channel needs \['torch'\]"),
    ],
)
def test_the_state_of_another_optimiser_is_refused_and_nothing_of_it_is_loaded(
    saved: str, loading: str, line: str
) -> None:
    other, channel = (channel_of({"optimiser": kind}) for kind in (saved, loading))
    for number in range(3):
        step(other, number)
    before = channel.state_dict()
    with pytest.raises(ScenarioError, match=rf"^channel up: state: optimiser {line}; create both"):
        channel.load_state_dict(other.state_dict())
    for name, value in channel.state_dict()["parameters"].items():
        assert torch.equal(value, before["parameters"][name])


@pytest.mark.parametrize("coupling", ["locked", "detached"])
def test_a_channel_without_a_predictor_needs_no_context(coupling: str) -> None:
    channel = comms.Channel(SIZE, context={"label": 3}, coupling=coupling)
    channel.send(torch.ones(BATCH, SIZE))
    assert torch.equal(channel.receive(), torch.ones(BATCH, SIZE))
    channel.send(torch.ones(BATCH, SIZE), label=torch.zeros(BATCH, dtype=torch.int64))
    assert (list(channel.parameters()), channel.state_dict()) == ([], {})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"coupling": "locked", "gradient": "mlp"},
            "up: gradient is not used by a locked channel; leave it out",
        ),
        (
            {"coupling": "detached", "learning_rate": 0.1},
            "up: lr is not used by a detached channel; leave it",
        ),
    ],
)
def test_settings_of_a_predictor_that_a_channel_does_not_have_are_warned_of(
    settings: dict[str, Any], line: str
) -> None:
    with pytest.warns(ScenarioWarning, match=f"^channel {line}") as caught:
        comms.Channel(SIZE, name="up", **settings)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("error::antiphon.errors.ScenarioWarning")
def test_a_channel_that_uses_all_its_settings_is_not_warned_of() -> None:
    comms.Channel(SIZE, gradient="mlp", lr=0.1)
    for coupling in ("locked", "detached"):
        comms.Channel(SIZE, coupling=coupling)
        comms.Channel(SIZE, coupling=coupling, gradient=None)


class Carries(nn.Module):
    """A predictor that begins each call with what the call before has left."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.cell, self.last = nn.GRUCell(inputs, 4), nn.Linear(4, outputs)
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden is not None and len(self.hidden) != len(x):
            self.hidden = None
        self.hidden = self.cell(x, self.hidden)
        found: Tensor = self.last(self.hidden)
        return found


class Past(nn.Linear):
    """One that keeps its state in a list, which is the same list after each call."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.past: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.past.append(x.mean(0))
        return super().forward(x - torch.stack(self.past).mean(0))


class Stateful(nn.Linear):
    """One with a state, as networks of agents may have."""

    state_size = 4

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), state


class Remembers(nn.Linear):
    """One that keeps its last result to be looked at, and a running mean as a buffer: neither is a hidden state."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mean", torch.zeros(()))
        self.result: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        self.result = super().forward(x) + self.mean
        return self.result


def scenario_of(kind: Any, key: str) -> Scenario:
    channel: dict[str, Any] = {"from": "a", "to": "b", "size": SIZE, key: {"kind": kind}}
    if key == "input":
        channel |= {"coupling": "unlocked", "input": {"kind": kind, "context": ["image"]}}
    agents = {
        "a": {"observes": ["image"]},
        "b": {"objective": {"kind": "classification", "target": "label"}},
    }
    training = {"batch": BATCH, "steps": 20}
    document = {"scenario": "s", "env": {"id": "antiphon/Digits-v0"}, "agents": agents, "training": training}
    return Scenario.model_validate({**document, "channels": [channel]})


KEPT = {
    Carries: "Carries keeps its attribute 'hidden' from call to call, but a prediction must depend on its input alone",
    Past: "Past keeps a state on itself from call to call, but a prediction must depend on its input alone",
    Stateful: "Stateful has a state .state_size., but a prediction must depend on its input alone",
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_predictor_that_keeps_a_state_is_refused_at_every_door(kind: type[nn.Module]) -> None:
    for instance in (False, True):
        with pytest.raises(ScenarioError, match=f"channel up: gradient.kind: {KEPT[kind]}"):
            channel_of(kind(SIZE + 3, SIZE) if instance else kind)
    network: dict[str, Any] = {"kind": "local", "target": "label", "network": kind(SIZE, 3)}
    with pytest.raises(ScenarioError, match=r"channel up: gradient\.network: "):
        channel_of(network)
    for key in ("gradient", "input"):
        with pytest.raises(ScenarioError, match=rf"channels\[a->b\].{key}.kind: {KEPT[kind]}"):
            Simulation(scenario_of(kind, key))


@pytest.mark.parametrize("key", ["gradient", "input"])
def test_a_predictor_that_only_keeps_what_it_does_not_use_runs(key: str) -> None:
    with Simulation(scenario_of(Remembers, key)) as simulation:
        simulation.run(steps=3, progress=False)
    step(channel_of(Remembers), 0)


def test_what_is_no_state_is_refused_before_anything_is_loaded() -> None:
    channel, other = comms.Channel(4), comms.Channel(4)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(3.0)
    partial = other.state_dict()
    del partial["updates"]
    for wrong, line in ((partial, "has no updates"), ([1], "is a list")):
        with pytest.raises(ScenarioError, match=f"^channel: state: {line}; pass what state_dict"):
            channel.load_state_dict(wrong)  # type: ignore[arg-type]
    assert not any(parameter.any() for parameter in channel.parameters())
