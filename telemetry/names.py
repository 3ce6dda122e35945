"""Names for tags and files."""

from __future__ import annotations

import hashlib
import re

_FOREIGN = re.compile(r"[^A-Za-z0-9_.\-]")


def tag_part(text: str) -> str:
    """Return a name as one part of a TensorBoard tag: letters, digits and `_ . -` only, never a slash.

    A name that is changed gets eight digits of its hash, so that two names never share a tag.

    Args:
        text: Any text; names from a scenario are returned unchanged.
    """
    if text and not _FOREIGN.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_FOREIGN.sub('_', text)[:64]}-{digest}"
