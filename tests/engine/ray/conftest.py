"""What tests of parts in processes of their own stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.engine.ray import ray_parts
from tests.engine.ray.processes import PATIENCE


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """Let processes begin as late as they may on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_parts, "_STARTED_WITHIN", PATIENCE)
        yield


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files with a short name, for the paths of sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as found:
        yield Path(found)
