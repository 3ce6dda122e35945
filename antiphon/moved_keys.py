"""Keys that documents of earlier versions have, and what is written instead."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["moved_key"]

_RENAMED = {
    "also": "choices",
    "branching": "neighbours",
    "by": "kind",
    "deviation": "noise",
    "encoder": "hidden",
    "every": "period",
    "factor": "scale",
    "filter": "size",
    "head": "network",
    "help": "description",
    "length": "size",
    "readouts": "readout",
    "signal": "observes",
    "span": "horizon",
    "staleness": "horizon",
    "tied": "share",
    "top": "max",
    "weight": "scale",
    "weights": "parameters",
    "when": "read",
}
"""By old key the new one, in each section that has the new one."""
_REWRITTEN = {
    "apply": "write scale: 0 and discount: 0 for a predictor that is trained and not applied",
    "back": "write link: {delay: [there, back]}",
    "betas": "use torch's own optimiser by its name, such as kind: Adam, which has betas",
    "blind_channel": "write channel: {split: …}",
    "bound": "write advanced: {on_divergence: {kind: stop, max: …}}",
    "carries": "write key: state for the channel of a state, and leave it out elsewhere",
    "dealt_agents": "write agent: {deal: […]}",
    "first_agent": "write agent: {first: …}",
    "gymnasium": "write id: gymnasium/NAME",
    "options": "write its keys beside kind",
    "p_update": "write the probability as learn",
    "pettingzoo": "write id: pettingzoo/MODULE",
    "prefix": "leave it out; names of generated agents begin with n",
    "readout_agent": "write agent: {readout: …}",
    "split_channel": "write channel: {split: …}",
    "symbols": "write sample: {kind: gumbel, vocabulary: …}",
    "type": "leave it out; values are of the type of the default, such as 1, 1.0 or word",
    "window_limit": "leave it out; windows may have up to 65,536 steps",
}
"""By old key what is to be done, where it is more than another name."""


def moved_key(key: str, has: Callable[[str], bool]) -> str | None:
    """Return what a section has instead of a key of earlier versions; None: it is no such key.

    Args:
        key: The key, which the section does not have.
        has: Whether the section has a key.
    """
    new = _RENAMED.get(key, "")
    fix = f"write {new}" if has(new) else _REWRITTEN.get(key)
    return None if fix is None else f"is no longer a key; {fix}"
