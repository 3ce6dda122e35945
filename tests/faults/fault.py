"""A small fault, as data: what is changed in which file, and which test notices it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault.

    Attributes:
        name: What is wrong then, in a few words joined by hyphens; the first of them says where.
        file: The file that is changed, from the repository's root.
        old: Text that is in the file exactly once.
        new: What is put in its place.
        caught_by: The test that fails then: a file, or a node id of pytest.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: str
