"""The kinds of each section of a document with their keys, as `antiphon list kinds` lists them, for tests: where they lie is said here."""

from __future__ import annotations

from antiphon.base.extensions import Catalogue
from antiphon.base.kinds import fitting, kinds_of, own_keys_of, sections

__all__ = ["Catalogue", "fitting", "kinds_of", "own_keys_of", "sections"]
