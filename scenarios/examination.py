"""All problems of a document at once, where `Template.resolve` stops at the first."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from antiphon.scenarios.checks import problems_of
from antiphon.scenarios.document import PARTS_ALONE, Scenario, Template
from antiphon.scenarios.problems import DocumentError, Path

__all__ = ["Examination"]


class Examination:
    """A document that has been read as far as its problems allow.

    Values that are not accepted are left out of the scenario, so that the rest can be checked. A problem that may be a
    consequence of that is not reported.

    Attributes:
        scenario: What is left of it, its channels as they are written; None: too little is left.
    """

    def __init__(self, template: Template, variant: str | None, values: Mapping[str, Any]) -> None:
        """Read a template's document and check it, its environment left out.

        Raises:
            ScenarioError: Nothing can be checked: an unknown variant or parameter, or a graph that cannot be generated.
        """
        self.scenario: Scenario | None = None
        self._template = template
        self._document = template.explicit(variant, values)
        self._problems: list[DocumentError] = []
        self._incomplete: set[Path] = set()
        data = copy.deepcopy(self._document.data)
        while self.scenario is None:
            try:
                self.scenario = Scenario.model_validate(data, context=PARTS_ALONE)
            except DocumentError as error:
                found = error.separate()
                self.add(*found)
                self._incomplete |= {one.path for one in found}
                if not sum(_removed(data, one.path) for one in found):
                    return
        parts = {path[:2] for path in self._incomplete}
        for problem in problems_of(self.scenario):
            if not parts or (len(problem.path) > 1 and problem.path[:2] not in parts):
                self.add(problem)

    def add(self, *errors: DocumentError) -> None:
        """Add problems, of which a place has one, unless its value was left out."""
        left_out = {path[:3] for path in self._incomplete}
        for problem in (one for error in errors for one in error.separate()):
            path = self._numbered(problem.path)
            if path[:3] not in left_out and all(path != known.path for known in self._problems):
                self._problems.append(DocumentError(path, problem.message))

    def problems(self) -> list[DocumentError]:
        """Return the problems by line, with `file:line: ` in front; one that many generated agents have, once."""
        written = [self._document.as_written(one) for one in self._problems]
        written.sort(key=self._template.line)
        return list({str(located): located for located in map(self._template.located, written)}.values())

    def _numbered(self, path: Path) -> Path:
        """Replace a channel's name in a path by its number in the document."""
        if self.scenario is None or len(path) < 2 or path[0] != "channels" or isinstance(path[1], int):
            return path
        names = [channel.name for channel in self.scenario.channels]
        return (path[0], names.index(path[1]), *path[2:])


def _removed(data: Any, path: Path) -> bool:
    """Remove the value at a path, of a list all of it; return whether there was one that can be left out."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if len(path) < 2:
        return False
    for key in path[:-1]:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(data, dict) and data.pop(path[-1], _removed) is not _removed
