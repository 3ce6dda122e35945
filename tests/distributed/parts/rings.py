"""A ring of four agents on the embedded digits, whose channels can all be cut."""

from __future__ import annotations

from typing import Any

from antiphon.scenarios import Scenario

NAMES = "abcd"
GOAL = {"kind": "classification", "target": "label"}


def document(steps: int = 24, *, delay: int = 2, every: int = 8, **link: Any) -> dict[str, Any]:
    """The ring's document; `link` is of every channel, beside the delay."""
    agents = {
        name: {
            "observes": [f"patch_{place}"],
            "network": {"kind": "mlp", "hidden": [8]},
            "objective": GOAL,
        }
        for place, name in enumerate(NAMES)
    }
    channels = [
        {
            "from": one,
            "to": other,
            "size": 4,
            "link": {"delay": delay, **link},
            "gradient": {"kind": "linear", "context": ["label"]},
        }
        for one, other in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)
    ]
    return {
        "scenario": "ring",
        "env": {"id": "antiphon/Digits-v0", "patches": 4, "hold": 4, "episode": "example"},
        "agents": agents,
        "channels": channels,
        "training": {"batch": 8, "steps": steps},
        "telemetry": {"period": every},
    }


def ring(steps: int = 24, **keys: Any) -> Scenario:
    """The ring as a scenario."""
    return Scenario.model_validate(document(steps, **keys))
