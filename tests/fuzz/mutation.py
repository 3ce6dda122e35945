"""Mutations of a file's content, as bytes."""

from __future__ import annotations

import random

_EXTREMES = (0, 1, *(2**bits + more for bits in (7, 8, 15, 16, 31, 32, 63, 64) for more in (-1, 0)))


def _flip(random_: random.Random, content: bytearray) -> None:
    for _ in range(random_.choice((1, 1, 1, 2, 8, 64))):
        place = random_.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8


def _cut(random_: random.Random, content: bytearray) -> None:
    del content[random_.randrange(len(content)) :]


def _remove(random_: random.Random, content: bytearray) -> None:
    start = random_.randrange(len(content))
    del content[start : start + random_.choice((1, 2, 4, 16, 1000))]


def _insert(random_: random.Random, content: bytearray) -> None:
    start = random_.randrange(len(content) + 1)
    content[start:start] = random_.randbytes(random_.choice((1, 2, 4, 16, 1000)))


def _repeat(random_: random.Random, content: bytearray) -> None:
    start = random_.randrange(len(content))
    piece = content[start : start + random_.choice((1, 8, 64, 512))]
    content[start:start] = piece * random_.choice((1, 2, 50))


def _overwrite(random_: random.Random, content: bytearray) -> None:
    start = random_.randrange(len(content))
    length = min(random_.choice((1, 2, 4, 8, 16, 100)), len(content) - start)
    content[start : start + length] = random_.choice(
        (random_.randbytes(length), bytes(length), b"\xff" * length, b"[" * length, b"9" * length)
    )


def _number(random_: random.Random, content: bytearray) -> None:
    """Put an extreme integer somewhere, with a preference for the beginning, where headers are."""
    width = random_.choice((1, 2, 4, 8))
    start = random_.randrange(min(len(content), random_.choice((16, 128, len(content)))))
    value = random_.choice(_EXTREMES) % 2 ** (8 * width)
    content[start : start + width] = value.to_bytes(width, random_.choice(("little", "big")))


_MUTATIONS = (_flip, _flip, _cut, _remove, _insert, _repeat, _overwrite, _number, _number)


def mutated(random_: random.Random, content: bytes) -> bytes:
    """Return a content after one to four mutations."""
    found = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        if found:
            random_.choice(_MUTATIONS)(random_, found)
    return bytes(found)
