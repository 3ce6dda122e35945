"""The checksum of records against TensorBoard's own."""

from __future__ import annotations

import random

import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]
    masked_crc32c,
)

from antiphon.telemetry.event_file import masked_checksum


@pytest.mark.parametrize("length", [0, 1, 8, 1023, 1024, 1025, 1026, 1027, 4096, 5000, 65537])
@pytest.mark.parametrize("fill", ["random", "zeros", "ones"])
def test_it_is_tensorboards(length: int, fill: str) -> None:
    draw = random.Random(length)
    data = {"random": draw.randbytes(length), "zeros": bytes(length), "ones": b"\xff" * length}[fill]
    assert masked_checksum(data) == masked_crc32c(data)


@pytest.mark.parametrize("place", [0, 3, 1500, 2999])
def test_every_byte_counts(place: int) -> None:
    data = bytearray(random.Random(0).randbytes(3000))
    before = masked_checksum(bytes(data))
    data[place] ^= 1
    assert masked_checksum(bytes(data)) != before
