"""The checksum of records against TensorBoard's own."""

from __future__ import annotations

import random

import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]
    masked_crc32c,
)

from antiphon.telemetry.event_file import masked_checksum


@pytest.mark.parametrize("length", [0, 1, 8, 1027, 65537])
@pytest.mark.parametrize("fill", ["random", "zeros", "ones"])
def test_it_is_tensorboards(length: int, fill: str) -> None:
    draw = random.Random(length)
    data = {"random": draw.randbytes(length), "zeros": bytes(length), "ones": b"\xff" * length}[fill]
    assert masked_checksum(data) == masked_crc32c(data)
