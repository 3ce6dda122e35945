"""Checks from Python: what `antiphon check` does, with scenarios, templates and functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antiphon.base.argument_checks import check_mappings
from antiphon.base.spec import in_python
from antiphon.base.spellings import either_spelling
from antiphon.commands.check import Findings, findings_of
from antiphon.running.python_template import Buildable
from antiphon.scenarios import Template


@either_spelling
def check(
    scenario: Buildable | Template | str | Path,
    *,
    variant: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> Findings:
    """Check a scenario without running it, and return its problems and warnings; `print(found)` prints what the command prints.

    Only an environment of your own takes steps: ten, with random actions.

    Args:
        scenario: A scenario; a template, library name or file; the name or file of a study or population; or a function
            that returns a scenario.
        variant: The variant of the template that is checked; None: all.
        values: Parameter values.

    Returns:
        `ok`; `problems` and `warnings`, each line with the variants that it is about; and `updates`, the steps with the updates
        of each agent.

    Raises:
        ScenarioError: There is no such scenario, or no valid YAML.
    """
    check_mappings("check", values=values)
    return findings_of(scenario, variant, in_python(values or {}))
