"""Architectures as their users write them: what tests of splitting cut, compose and train."""

from tests.architectures.base import Architecture, numbers, tokens
from tests.architectures.images import IMAGES
from tests.architectures.mixed import MIXED
from tests.architectures.sequences import SEQUENCES

__all__ = ["ARCHITECTURES", "Architecture", "architecture", "numbers", "tokens"]

ARCHITECTURES = (*MIXED, *IMAGES, *SEQUENCES)


def architecture(name: str) -> Architecture:
    """Return an architecture by its name."""
    return next(each for each in ARCHITECTURES if each.name == name)
