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


def test_it_knows_keys_as_documents_write_them() -> None:
    channel = json_schema()["$defs"]["ChannelSpec"]
    assert {"from", "to"} == set(channel["required"])
    assert not {"sender", "receiver"} & set(channel["properties"])
    assert channel["additionalProperties"] is False


def test_any_value_may_be_a_parameter_and_is_explained() -> None:
    period = json_schema()["$defs"]["ClockSpec"]["properties"]["period"]
    assert period["anyOf"] == [
        {
            "default": 1,
            "description": "Steps from one tick to the next.",
            "maximum": 2147483647,
            "minimum": 1,
            "title": "Period",
            "type": "integer",
        },
        {"$ref": "#/$defs/reference"},
    ]


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    used = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used <= set(schema["$defs"])


def test_sections_of_templates_need_no_key() -> None:
    definitions = json_schema()["$defs"]
    assert "required" not in definitions["channel_section"]
    assert json_schema()["required"] == ["scenario", "env"]
