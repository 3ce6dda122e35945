"""Troubleshooting is true: every message in it is the one that antiphon prints today."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import antiphon
from antiphon.agents.models import ResNet
from tests.kit.commands import Commands

PAGE = Path(__file__).resolve().parents[2] / "docs/troubleshooting.md"
MESSAGES = re.findall(r"```text\n(.*)\n```", PAGE.read_text(encoding="utf-8"))

MINE = """\
scenario: small
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image], network: {kind: mlp, hidden: [16]}}
  b: {objective: {kind: classification, target: label}}
channels:
  - {from: a, to: b, size: 8}
training: {batch: 16, steps: 5}
"""
COMMANDS = (
    "run mnist-mlp",
    "run digits-mlp --set lr=1e30 --steps 20",
    "run digits-mlp --set width=1000000000",
)
"""Commands that are refused, or end, with a message of the page."""
CHANGES = (
    ("[image]", "[label]"),
    ("size: 8}", "size: 8}\n  - {from: b, to: a, size: 8}"),
    ("hidden: [16]", "hidden: []"),
)
"""Changes of the document that `check` refuses with a message of the page."""


def simulated(network: Callable[..., nn.Module]) -> None:
    """Build a system whose agent `a` has a network of its own."""
    agents: dict[str, Any] = {
        "a": {"observes": ["image"], "network": network},
        "b": {"objective": {"kind": "classification", "target": "label"}},
    }
    channels: list[Any] = [{"from": "a", "to": "b", "size": 8}]
    env: Any = {"id": "antiphon/Digits-v0"}
    antiphon.Simulation(antiphon.Scenario(scenario="own", env=env, agents=agents, channels=channels))  # type: ignore[arg-type]


class Small(nn.Module):
    """Three layers on digits; what is between the first and the last is a test's."""

    def __init__(self, between: Callable[[Small, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 10)
        self.between = between

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.between(self, self.first(image.flatten(1))))
        return y


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer, self.head = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 10)
        self.head.weight = self.token.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.layer(self.token(tokens)))
        return y


def branch(model: Small, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = model.middle(x if x.mean() > 0 else -x)
    return y


def centre(model: Small, x: torch.Tensor) -> torch.Tensor:
    mean = x.mean(0)
    y: torch.Tensor = model.middle(x) - mean
    return y


def plain(model: Small, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = model.middle(x)
    return y


def split(
    between: Callable[[Small, torch.Tensor], torch.Tensor] = plain, at: str = "middle", **settings: Any
) -> object:
    """Split a small model of the embedded digits."""
    return antiphon.split(Small(between), at=[at], env={"id": "antiphon/Digits-v0"}, **settings)


def split_text(model: nn.Module, classes: int = 10, **settings: Any) -> object:
    """Split a model of the next of ten tokens, of which the data have eight."""
    tokens = torch.arange(60).reshape(10, 6) % 8
    columns = {"tokens": tokens, "following": (tokens + 1) % 8}
    env = antiphon.envs.from_tensors(
        **columns, training_only=["following"], classes={"tokens": 10, "following": classes}
    )
    return antiphon.split(model, at=["layer"], env=env, objective="following", **settings)


PYTHON: tuple[Callable[[], object], ...] = (
    lambda: simulated(lambda inputs, outputs: nn.Linear(inputs, 5)),
    lambda: split(branch),
    lambda: split(centre),
    lambda: split_text(Tied(), classes=8, tie="together"),
    lambda: antiphon.split(ResNet(1, 10), 3, env={"id": "antiphon/Digits-v0"}, gradient="lens"),
)
"""Programs that raise a message of the page."""


def printed(cli: Commands) -> set[str]:
    """Return the errors that the last command printed."""
    return {line.removeprefix("error: ") for line in cli.err.splitlines() if line.startswith("error: ")}


@pytest.mark.long
def test_every_message_is_one_that_is_printed(
    here: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTIPHON_DATA", raising=False)
    monkeypatch.delenv("ANTIPHON_LOGDIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    document = here / "mine.yaml"
    document.write_text(MINE)
    found: set[str] = set()
    for words in COMMANDS:
        assert cli.code(words) in (2, 3, 4)
        found |= printed(cli)
    for before, after in CHANGES:
        text = MINE.replace(before, after)
        assert text != MINE
        document.write_text(text.replace(", size: 8", "") if after == "hidden: []" else text)
        assert cli.code("check mine.yaml") == 2
        found |= printed(cli)
    for program in PYTHON:
        with pytest.raises(antiphon.AntiphonError) as caught:
            program()
        found.add(str(caught.value))
    for message in MESSAGES:
        pattern = ".*".join(map(re.escape, message.split("…")))
        assert any(re.fullmatch(pattern, line) for line in found), f"not printed any more: {message}"
    assert len(MESSAGES) == len(set(MESSAGES)) == len(COMMANDS) + len(CHANGES) + len(PYTHON)
