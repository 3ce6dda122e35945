"""Cautions: what figures of a channel, read together, warn of."""

from __future__ import annotations

__all__ = ["signal_caution"]

_HIGH = 0.5
"""Cosine of single messages from which on a signal passes for a good one."""
_SHARE = 0.5
"""Share of it below which the cosine of the parameter gradient contradicts it."""


def signal_caution(cosine: float | None, parameter_cosine: float | None) -> str | None:
    """Return what to beware of in a channel's alignment; None: nothing, or one of the two is not known.

    Args:
        cosine: Between synthetic and true gradients of single messages.
        parameter_cosine: Between the gradients of the sender's parameters that the two cause.
    """
    if (
        cosine is None
        or parameter_cosine is None
        or not (cosine >= _HIGH and parameter_cosine < _SHARE * cosine)
    ):
        return None
    return (
        f"its signal is like the true gradient message by message (cosine {cosine:.2f}), but the sender's parameters follow "
        f"another direction ({parameter_cosine:.2f}); use local, or more context, or a smaller scale"
    )
