"""Print the lowest version of every dependency that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
_LOWER_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z]+\])?>=(?P<version>[0-9.]+)")


def lowest(project: Mapping[str, Any]) -> Iterator[str]:
    """Yield `name==version` for each requirement of a `[project]` table, its extras among them.

    Raises:
        ValueError: A requirement that has no lower bound, and nothing else.
    """
    required = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        required += [line for line in extra if not line.startswith(f"{project['name']}[")]
    for line in required:
        found = _LOWER_BOUND.fullmatch(line)
        if found is None:
            raise ValueError(f"pyproject.toml: {line!r} must be NAME>=VERSION")
        yield f"{found['name']}=={found['version']}"


if __name__ == "__main__":
    try:
        print("\n".join(lowest(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"])))
    except ValueError as error:
        sys.exit(str(error))
