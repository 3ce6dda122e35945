"""Names of agents, ports and channels, and how channels are written in text and in tags."""

from __future__ import annotations

import re

__all__ = ["channel_name", "channel_slug", "name_problem"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def name_problem(name: object) -> str | None:
    """Return why `name` cannot name an agent, port, group or scenario; None where it can."""
    if not isinstance(name, str):
        return f"a name is a word, not {name!r}; put it in quotes"
    if not _NAME.fullmatch(name):
        return f"{name!r} is not a name; use letters, digits, '_' and '-'"
    if "__" in name:
        return f"{name!r} is not a name; a double underscore is kept for tags"
    return None


def channel_name(sender: str, receiver: str, key: int | str) -> str:
    """Return `a->b`, or `a->b:key` for a parallel channel (any key but 0)."""
    return f"{sender}->{receiver}" if key == 0 else f"{sender}->{receiver}:{key}"


def channel_slug(sender: str, receiver: str, key: int | str) -> str:
    """Return the name of a channel for tags and file names: `a__to__b` or `a__to__b__key`."""
    return f"{sender}__to__{receiver}" if key == 0 else f"{sender}__to__{receiver}__{key}"
