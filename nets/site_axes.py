"""Sites of messages: the tokens of [T, D], whose features are last, and the pixels of [C, H, W], whose features are first.

A message [D] has no sites; a volume [C, X, Y, Z] has its features first, like a map.
"""

from __future__ import annotations

from torch import Tensor


def as_maps(images: Tensor, layout: str) -> Tensor:
    """Return images as maps [rows, channels, height, width].

    Args:
        images: [rows, …].
        layout: `first`: the images are maps; `last`: [rows, height, width, channels]; `none`: [rows, height, width].
    """
    if layout == "last":
        return images.movedim(-1, 1)
    return images.unsqueeze(1) if layout == "none" else images


def features_first(shape: tuple[int, ...]) -> bool:
    """Whether the features of a message of this shape are its first axis, not its last."""
    return len(shape) > 2


def site_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of the sites: (T,) of [T, D], (H, W) of [C, H, W], () of [D]."""
    return shape[1:] if features_first(shape) else shape[:-1]


def site_features(shape: tuple[int, ...]) -> int:
    """Return the number of features of one site: D of [T, D] and of [D], C of [C, H, W]."""
    return shape[0] if features_first(shape) else shape[-1]
