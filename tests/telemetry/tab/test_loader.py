"""The entry point that TensorBoard loads: light, and never a reason for TensorBoard not to start."""

from __future__ import annotations

import logging
import subprocess
import sys
import types
from argparse import Namespace
from typing import Any

import pytest
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]

from tests.kit.tab import ChannelsLoader


def context(**changes: Any) -> Any:
    return base_plugin.TBContext(data_provider=object(), sampling_hints={"antiphon": 7}, **changes)


@pytest.mark.long
def test_neither_torch_nor_matplotlib_is_imported() -> None:
    names = "print(*sorted({n.split('.')[0] for n in sys.modules}))"
    code = f"import sys, antiphon.telemetry.tab.loader, antiphon.telemetry.tab.plugin; {names}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "tensorboard" in done.stdout.split()
    assert not {"torch", "matplotlib", "pandas", "networkx"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"antiphon": 1000}),
        ({"scalars": 50}, {"scalars": 50, "antiphon": 1000}),
        ({"antiphon": 0}, {"antiphon": 0}),
        ({"antiphon": 30}, {"antiphon": 30}),
    ],
)
def test_more_rows_are_kept_unless_the_user_says_how_many(
    given: dict[str, int], kept: dict[str, int]
) -> None:
    flags = Namespace(samples_per_plugin=given)
    ChannelsLoader().fix_flags(flags)
    assert flags.samples_per_plugin == kept


def test_an_error_of_ours_costs_the_tab_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = types.ModuleType("broken")
    monkeypatch.setitem(sys.modules, "antiphon.telemetry.tab.plugin", broken)
    with caplog.at_level(logging.WARNING):
        assert ChannelsLoader().load(context()) is None
    (said,) = caplog.messages
    assert said.startswith("TensorBoard has no Channels tab: ImportError: ")
    assert "\n" not in said
