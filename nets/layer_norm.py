"""Layer normalisation of messages, for predictors that predict the gradient at the normalised message."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from antiphon.nets.site_axes import features_first, site_features

__all__ = ["layer_norm"]

_EPSILON = 1e-5


def layer_norm(message: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return flat messages [..., M], normalised without scale and shift, and the vector-Jacobian product of the norm.

    The norm is over the features of every site: the last axis of [T, D], the channels of [C, H, W] at every pixel, all
    components of other messages (Ba et al. 2016, "Layer Normalization", 1607.06450). The product maps the gradient at
    the normalised message to the gradient at the message, both [..., M].

    Args:
        message: The messages.
        shape: Shape of one message.
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
