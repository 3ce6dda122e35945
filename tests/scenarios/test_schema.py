"""The JSON Schema that is shipped for editors."""

from __future__ import annotations

import json
from pathlib import Path

import antiphon.scenarios
from antiphon.scenarios import Scenario, catalogue, json_schema
from antiphon.scenarios.schema import schema_text
from antiphon.scenarios.yaml_text import read


def test_the_shipped_file_is_current() -> None:
    shipped = Path(antiphon.scenarios.__file__).with_name("schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run: antiphon show --schema > scenarios/schema.json"
    assert json.loads(shipped) == json_schema()


def test_it_knows_every_key_of_the_library() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(Scenario.model_fields) < set(schema["properties"])
    for template in catalogue().values():
        assert set(read(template.text, template.name).data) <= set(schema["properties"])


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    used = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used <= set(schema["$defs"])
