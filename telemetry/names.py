"""Names for tags and files, and the error when a file cannot be written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antiphon.errors import RunError

_FOREIGN = re.compile(r"[^A-Za-z0-9_.\-]")


def tag_part(text: str) -> str:
    """Return a name as one part of a TensorBoard tag: letters, digits and `_ . -` only, never a slash.

    A name that needs changing gets eight digits of its hash, so that two names never share a tag.

    Args:
        text: Any text; names from a scenario come back unchanged.
    """
    if text and not _FOREIGN.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_FOREIGN.sub('_', text)[:64]}-{digest}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert the operating system's write errors to a one-line RunError.

    Raises:
        RunError: The file cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"{path}: cannot be written ({reason}); choose a log directory that can") from error
