"""What the tests of splitting make of an architecture: its scenario, its parts called by hand, its plain training loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.envs import from_tensors
from antiphon.nets.random import seed_for
from antiphon.scenarios import Scenario
from tests.kit.tensors import same
from tests.splitting.models import Architecture, Logits, numbers, tokens

ROWS = 24
BATCH = 4
RATE = 0.01
ADAM = {"kind": "adam", "lr": RATE}
FUSED = partial(torch.optim.Adam, lr=RATE, fused=True)
LOOP = 6
"""Steps of a loop that is held to a plain one."""
ROUNDING = 1e-8
"""Between two orders of summation in float64 after `LOOP` steps: Adam makes steps of 1e-3 and more of gradients of any size, also of
those that are rounding alone (a bias before batch norm), and each step enlarges what the one before left. A wrong gradient is 1e-3."""


def pictures(**more: Any) -> Any:
    """Return an environment of 64 pictures and their labels."""
    image = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return from_tensors(image=image, label=torch.arange(64) % 10, test=0.1, validation=0.1, **more)


def split_text(model: nn.Module, at: Any, **settings: Any) -> Scenario:
    """Split a model of `idx`, which names the following token at every place."""
    data = torch.randint(0, 7, (64, 7), generator=torch.Generator().manual_seed(0))
    env = from_tensors(
        tokens=data[:, :-1], following=data[:, 1:], training_only=["following"], test=0.1, validation=0.1
    )
    goal = {"kind": "classification", "target": "following"}
    settings = {"inputs": {"idx": "tokens"}, "objective": goal, "batch": BATCH, "steps": 20, **settings}
    return antiphon.split(model, at, env=env, **settings)


CUTS = ["blocks.1", "blocks.2", "blocks.3"]


def gpt(**settings: Any) -> Logits:
    """Return a transformer of four blocks."""
    torch.manual_seed(0)
    return Logits(blocks=4, **settings)


def split_gpt(model: nn.Module, gradient: Any, at: Any = CUTS, **settings: Any) -> Scenario:
    """Split it with a synthetic gradient."""
    return split_text(model, at, gradient=gradient, **settings)


def data_of(architecture: Architecture, rows: int = ROWS) -> dict[str, Tensor]:
    """Return the columns of an environment: the inputs, named in_…, and a target that fits the prediction."""
    columns = {f"in_{name}": value for name, value in architecture.example(rows, seed=11).items()}
    with torch.no_grad():
        shape = architecture.call(architecture.model().eval(), architecture.example(2)).shape[1:]
    if architecture.classes is None:
        return {**columns, "target": numbers(*shape)(rows, 5)}
    return {**columns, "target": tokens(architecture.classes, *shape[:-1])(rows, 5)}


def split_of(
    architecture: Architecture, at: Any, model: nn.Module | None = None, **settings: Any
) -> Scenario:
    """Split an architecture at cuts."""
    columns = data_of(architecture)
    kind = "regression" if architecture.classes is None else "classification"
    settings = {"batch": BATCH, "optimiser": ADAM, "steps": 50, **settings}
    return antiphon.split(
        architecture.model() if model is None else model,
        at=list(at) if isinstance(at, tuple) else at,
        env=from_tensors(**columns),
        inputs={name: f"in_{name}" for name in architecture.inputs},
        objective={"kind": kind, "target": "target"},
        output=architecture.output,
        **settings,
    )


def composed(scenario: Scenario, arguments: Mapping[str, Tensor], *, training: bool) -> Tensor:
    """Return the prediction, [batch, outputs], of a scenario's parts called one after the other, as agents call them.

    A part takes one row a sample: its observations in declared order, then its messages in the order of channels. It
    gives its objective's outputs first, then its ports.
    """
    sent: dict[tuple[str, str], Tensor] = {}
    prediction: Tensor | None = None
    for name, agent in scenario.agents.items():
        observed = [arguments[signal.removeprefix("in_")].float().flatten(1) for signal in agent.observes]
        received = [sent[channel.sender, _port(channel)] for channel in scenario.relations.inputs[name]]
        part = copy.deepcopy(agent.network)
        assert isinstance(part, nn.Module)
        found = part.train(training)(torch.cat([*observed, *received], 1))
        ports = {
            _port(channel): math.prod(_axes(channel.size)) for channel in scenario.relations.outputs[name]
        }
        own = found.shape[1] - sum(ports.values())
        assert (own > 0) == (agent.objective is not None)
        if own:
            prediction, found = found[:, :own], found[:, own:]
        for port, message in zip(ports, found.split(list(ports.values()), 1), strict=True):
            sent[name, port] = message
    assert prediction is not None
    return prediction


def _port(channel: Any) -> str:
    return channel.port or channel.name


def _axes(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else size


def plain_loss(architecture: Architecture, found: Tensor, target: Tensor) -> Tensor:
    """Return the loss of a batch as a plain training loop has it."""
    if architecture.classes is None:
        return F.mse_loss(found, target)
    return F.cross_entropy(found.flatten(0, -2), target.flatten())


class PlainLoop:
    """The user's own training loop, its dropout drawn as the parts of a run with seed 0 draw theirs.

    Args:
        architecture: The model's.
        cuts: Where the parts begin, in order.
        dropout: The model's rate, where it has one.
        optimiser: Makes one for the parameters that learn.
        clip: The norm of all gradients at most.
    """

    def __init__(
        self,
        architecture: Architecture,
        cuts: tuple[str, ...],
        dropout: float = 0.0,
        optimiser: Any = FUSED,
        clip: float = math.inf,
    ) -> None:
        self.architecture, self.clip = architecture, clip
        self.model = architecture.model(dropout).double().train()
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = optimiser(learning)
        self.steps = 0
        for part, cut in enumerate(cuts, start=1):
            self.model.get_submodule(cut).register_forward_pre_hook(partial(self._seed, part))

    def _seed(self, part: int, *called: object) -> None:
        torch.manual_seed(seed_for(seed_for(0, "agent", f"part{part}"), "tick", str(self.steps)))

    def step(self, signals: Mapping[str, Tensor]) -> float:
        """Take a step on a batch; return its loss."""
        arguments = {name: signals[f"in_{name}"] for name in self.architecture.inputs}
        with torch.random.fork_rng(devices=[]):
            self._seed(0)
            found = self.architecture.call(self.model, arguments)
        loss = plain_loss(self.architecture, found, signals["target"])
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip < math.inf:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimiser.step()
        self.steps += 1
        return loss.item()


# --- a model for what may be in a forward ------------------------------------------------------------------


class Chain(nn.Module):
    """Three layers, or what is between the first and the last of them."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 5)
        self.between = between

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.first(x))
        return self.third(self.second(h) if self.between is None else self.between(self, h))


def chain_split(
    model: Any, at: Any = ("second",), output: str | int | None = None, **settings: Any
) -> Scenario:
    """Split a model of `x`, [batch, 7], with five classes, by the objective of an output."""
    env = from_tensors(x=numbers(7)(20, 0), label=tokens(5)(20, 1))
    goal = {"kind": "classification", "target": "label"}
    settings = {"objective": goal, "env": env, "inputs": {"x": "x"}, "batch": BATCH, **settings}
    return antiphon.split(model, at=list(at) if isinstance(at, tuple) else at, output=output, **settings)


def assert_composed(model: nn.Module, at: Any = ("second",), **settings: Any) -> Scenario:
    """Hold the parts to the model in both modes, at two batch sizes, with what it draws; return the scenario."""
    scenario = chain_split(model, at, **settings)
    for batch in (4, 5):
        for training in (True, False):
            x = numbers(7)(batch, batch)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                expected = copy.deepcopy(model).train(training)(x.clone())
                torch.manual_seed(3)
                same(composed(scenario, {"x": x}, training=training), expected)
    return scenario
