"""Sites of messages: the tokens of [T, D], whose features are last, and the pixels of [C, H, W], whose features are first.

A message [D] has no sites; a volume [C, X, Y, Z] has its features first, like a map.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

_EPSILON = 1e-5


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


def layer_norm(message: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return flat messages [..., M], normalised without scale and shift, and the vector-Jacobian product of the norm.

    The norm is over the features of every site: the last axis of [T, D], the channels of [C, H, W] at every pixel, all
    components of other messages (Ba et al. 2016, "Layer Normalization", 1607.06450). The product maps the gradient at
    the normalised message to the gradient at the message, both [..., M].
    """
    first, features = features_first(shape), site_features(shape)
    axis, sizes = (-2, (features, -1)) if first else (-1, (-1, features))
    sites = message.reshape(*message.shape[:-1], *sizes)
    centred = sites - sites.mean(axis, keepdim=True)
    scale = (centred.square().mean(axis, keepdim=True) + _EPSILON).rsqrt()
    normal = centred * scale

    def pull_back(gradient: Tensor) -> Tensor:
        g = gradient.reshape(sites.shape)
        along = (g * normal).mean(axis, keepdim=True)
        return (scale * (g - g.mean(axis, keepdim=True) - normal * along)).flatten(-2)

    return normal.flatten(-2), pull_back
