"""A scenario as YAML: one line per agent and per channel, defaults left out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from antiphon.scenarios.parts import EnvSpec, NetworkSpec
from antiphon.scenarios.problems import DocumentError
from antiphon.scenarios.reader import plain_scalar_tags
from antiphon.scenarios.spec import plain

if TYPE_CHECKING:
    from antiphon.scenarios.document import Scenario

__all__ = ["to_yaml", "write"]

_WIDTH = 160
_LINE_ENDS = frozenset("\r\x85\u2028\u2029\ufeff")
_SECTIONS = ("agents", "channels", "training", "telemetry")


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes ambiguous words of YAML 1.1 and 1.2; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Escape characters that readers take for line ends, in double quotes."""
        style = '"' if _LINE_ENDS & set(text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.yaml_implicit_resolvers = {
    start: [*yaml.SafeDumper.yaml_implicit_resolvers.get(start, ()), *plain_scalar_tags().get(start, ())]
    for start in {*yaml.SafeDumper.yaml_implicit_resolvers, *plain_scalar_tags()}
}


def to_yaml(scenario: Scenario) -> str:
    """Write a scenario as a document that reads back equal.

    Raises:
        ScenarioError: It holds Python objects.
    """
    if not isinstance(scenario.env, EnvSpec):
        kind = type(scenario.env).__name__
        raise DocumentError(
            ("env",), f"a Python {kind} cannot become YAML; name a registered environment's id"
        )
    for name, agent in scenario.agents.items():
        if not isinstance(agent.network, NetworkSpec):
            message = "a Python network cannot become YAML; name a built-in kind such as {kind: mlp}"
            raise DocumentError(("agents", name, "network"), message)
    return write(plain(scenario))


def write(data: Mapping[str, Any]) -> str:
    """Write a document (plain data): sections in blocks, each agent, channel and value on a line."""
    stream = io.StringIO()
    dumper = _Dumper(stream, width=_WIDTH, allow_unicode=True, sort_keys=False, default_flow_style=True)
    dumper.open()
    root: Any = dumper.represent_data(data)
    root.flow_style = False
    for key, value in root.value:
        value.flow_style = not (key.value in _SECTIONS and value.value)
    dumper.serialize(root)
    dumper.close()
    return stream.getvalue()
