"""What tests of parts in processes of their own stand on."""

from __future__ import annotations

import pytest

PATIENCE = 1200.0
"""Seconds that a test waits for processes: nothing may fail because other programs keep the machine busy."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes begin as late as they may on a busy machine."""
    monkeypatch.setattr("antiphon.distributed.ray.ray_parts._STARTED_WITHIN", PATIENCE)
