"""The command line: how a scenario will be run, and what is said where memory does not suffice."""

from __future__ import annotations

import pytest

from tests.kit.commands import Commands

TINY = "--set width=8 --set batch=8 --steps 2 --logdir . --name a"


def shown(cli: Commands, *words: str) -> str:
    """Return what `show` prints of the plan."""
    text = cli("show", *words)
    return text[text.index("runs on") :]


def test_show_ends_with_how_it_is_run(cli: Commands) -> None:
    text = shown(cli, "digits-mlp")
    for part in (
        "backend   cohort: no agents are stacked",
        "device    cpu  ",
        "waves     4 a step",
        "n0, n1, … (4)   no other agent is like it",
    ):
        assert part in text
    assert all(len(line) <= 120 for line in text.splitlines())


# --- memory ----------------------------------------------------------------------------------------------


def test_a_refusal_elsewhere_is_a_line_too(monkeypatch: pytest.MonkeyPatch, cli: Commands) -> None:
    for error, code in ((MemoryError(), 4), (RuntimeError("CUDA out of memory."), 4), (RuntimeError("?"), 1)):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("antiphon.commands.evaluate.RunDirectory.open", fail)
        if code == 1:
            with pytest.raises(RuntimeError):
                cli.code("evaluate a")
        else:
            assert cli.code("evaluate a") == code
            assert cli.err.startswith("error: out of memory; lower training.batch")
