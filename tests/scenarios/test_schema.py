"""The JSON Schema of documents, for editors."""

from __future__ import annotations

import json

from antiphon.scenarios import Scenario, catalogue, json_schema
from antiphon.scenarios.yaml_text import read


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
