"""Ctrl-C and SIGTERM: what they end, what they leave, and what the caller learns of them."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import pytest

from antiphon.envs.images import Digits
from tests.kit.commands import Commands


def test_the_command_says_how_a_stopped_run_continues(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    steps, step = itertools.count(1), Digits.step

    def stepped(self: Digits, actions: Any = None) -> Any:
        if next(steps) == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(self, actions)

    monkeypatch.setattr(Digits, "step", stepped)
    words = "run digits-mlp --set depth=2 --set width=4 --steps 9 --logdir . --name run"
    assert cli.code(words) == 143
    assert "stopped; antiphon resume run continues from its latest checkpoint" in cli.err
    assert "stopped" not in (cli("resume run"), cli.err)[1]
