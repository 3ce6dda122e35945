"""The JSON Schema of documents, for editors: a scenario or a template, `$name` allowed for any value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from antiphon.base.kinds import attributes_in
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.graphs import GraphSpec
from antiphon.scenarios.parameters import ParameterSpec
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.yaml_text import EXTENSION

_REFERENCE = {
    "type": "string",
    "pattern": r"^\$[A-Za-z_][A-Za-z0-9_-]*$",
    "description": "a template parameter",
}

_ENDS = {"sender": "from", "receiver": "to"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of scenario files, with or without template parameters."""
    parts = {
        "parameter": ParameterSpec.model_json_schema(),
        "graph": GraphSpec.model_json_schema(),
        "agent": AgentSpec.model_json_schema(),
        "channel": ChannelSpec.model_json_schema(),
        "scenario": Scenario.model_json_schema(),
    }
    shared: dict[str, Any] = {}
    for model in parts.values():
        shared |= model.pop("$defs", {})
    parts["channel"].pop("required")
    named = shared | {f"{section}_section": parts[section] for section in ("agent", "channel", "graph")}
    definitions = {name: _with_references(schema) for name, schema in named.items()}
    definitions["parameter"] = _explained(parts["parameter"])
    definitions["reference"] = dict(_REFERENCE)
    definitions["channel_part"] = definitions["channel_section"]
    agent, channel = {"$ref": "#/$defs/AgentSpec"}, {"$ref": "#/$defs/channel_part"}
    dealt = {"type": "array", "items": agent, "minItems": 1}
    within = {"agent": {"first": agent, "readout": agent, "deal": dealt}, "channel": {"split": channel}}
    for name, sections in within.items():
        generated_section = definitions[f"{name}_section"]
        definitions[f"{name}_section"] = {
            **generated_section,
            "properties": generated_section["properties"] | sections,
        }
    scenario = _with_references(parts["scenario"])
    scenario["required"].remove("agents")
    scenario["properties"] |= {
        "parameters": {"type": "object", "additionalProperties": {"$ref": "#/$defs/parameter"}},
        "variants": {"type": "object", "additionalProperties": {"type": "object"}},
        **{section: {"$ref": f"#/$defs/{section}_section"} for section in ("graph", "agent", "channel")},
    }
    scenario["patternProperties"] = {f"^{EXTENSION}": {}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": dict(sorted(definitions.items())),
        **scenario,
        "title": "antiphon scenario",
    }


def schema_text() -> str:
    """Return the JSON Schema as text."""
    return json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"


def _with_references(schema: Any) -> Any:
    """Return a schema in which every value may be a parameter instead."""
    if isinstance(schema, list):
        return [_with_references(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    changed = {key: _with_references(item) for key, item in _explained(schema).items()}
    if "properties" in changed:
        changed["properties"] = {name: _or_reference(item) for name, item in changed["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(changed.get(key), dict):
            changed[key] = _or_reference(changed[key])
    return changed


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"$ref": "#/$defs/reference"}]}


def _explained(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object's schema with the attributes of its description moved to the properties."""
    text, listed, _ = str(schema.get("description", "")).partition("\n\nAttributes:\n")
    if not listed:
        return schema
    properties = {name: dict(item) for name, item in schema["properties"].items()}
    for name, meaning in attributes_in(schema["description"]).items():
        properties[_ENDS.get(name, name.removeprefix("written_"))]["description"] = meaning
    return {**schema, "description": text, "properties": properties}
