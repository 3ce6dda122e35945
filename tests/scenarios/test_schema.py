"""The JSON Schema of documents, and that scenarios are data: importing them loads no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from antiphon.envs import ids, options_of
from antiphon.scenarios import Scenario, catalogue, json_schema
from antiphon.scenarios.yaml_text import read


@pytest.mark.long
def test_it_allows_the_keys_that_hold_anchors() -> None:
    assert json_schema()["patternProperties"] == {"^x-": {}}


@pytest.mark.long
def test_it_knows_every_key_of_the_library() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(Scenario.model_fields) < set(schema["properties"])
    for template in catalogue().values():
        assert set(read(template.text, template.name).data) <= set(schema["properties"])


@pytest.mark.long
def test_an_environment_has_its_own_options() -> None:
    branches = json_schema()["$defs"]["EnvSpec"]["anyOf"]
    ours = {branch["title"]: branch for branch in branches if branch.get("title") in ids()}
    assert set(ours) == set(ids())
    for name, branch in ours.items():
        fields = options_of(name).model_fields
        assert set(branch["properties"]) == {"id", *fields}
        assert set(branch["required"]) == {
            "id",
            *(key for key, field in fields.items() if field.is_required()),
        }
    assert ours["antiphon/Copy-v0"]["additionalProperties"] is False


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    used = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used <= set(schema["$defs"])


# --- imports ---------------------------------------------------------------------------------------------


SCRIPT = """
import sys
from antiphon.scenarios import Scenario, catalogue, load
assert "networkx" not in sys.modules, "networkx is imported only where it is used"
for template in catalogue().values():
    assert template.parameters
load("corporation").resolve_values("locked")
heavy = sorted({"torch", "gymnasium", "numpy", "antiphon.engine"} & set(sys.modules))
print("loaded:", *heavy)
"""


def test_nothing_heavy_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.split() in (["loaded:"], ["loaded:", "numpy"])
