"""Scenes for settings that show in none of the contracts' documents: evaluation, telemetry, hidden layers beside states."""

from __future__ import annotations

from tests.contracts.builders import Document

_EYE: Document = {"observes": ["image"], "network": {"kind": "mlp", "hidden": [5], "norm": "layer"}}
_HAND: Document = {
    "network": {"kind": "mlp", "hidden": [4], "norm": "layer"},
    "objective": {"kind": "classification", "target": "label", "read": "each"},
}
_DIGITS: Document = {"id": "antiphon/Digits-v0", "hold": 2}
_TRAINING: Document = {"batch": 4, "steps": 12, "optimiser": {"kind": "adam", "lr": 0.01}}
_EVALUATE: Document = {"period": 3, "split": "validation", "keep_best": "accuracy", "patience": {"loss": 9}}
_TELEMETRY: Document = {"period": 4, "max": 2}
_TOLD: Document = {"kind": "linear", "context": ["label"]}


def _digits(hand: Document | None = None, **keys: object) -> Document:
    agents = {"eye": _EYE, "hand": {**_HAND, **(hand or {})}, "other": {**_HAND, "observes": ["image"]}}
    agents["twin"] = agents["other"]
    channel: Document = {"from": "eye", "to": "hand", "size": 3, "gradient": _TOLD}
    document: Document = {"scenario": "digits", "env": _DIGITS, "agents": agents, "channels": [channel]}
    return {**document, "training": _TRAINING, **keys}


SCENES: dict[str, Document] = {
    "evaluated": _digits(
        readout=["other"],
        training={**_TRAINING, "batch": 16, "optimiser": {"kind": "adam", "lr": 0.5}, "evaluate": _EVALUATE},
        telemetry=_TELEMETRY,
    ),
    **{
        f"hidden layers of a {kind}": _digits(
            {"network": {"kind": kind, "hidden": [4], "size": 3, "norm": "layer", "activation": "relu"}},
        )
        for kind in ("gru", "rnn")
    },
}
"""Documents by name; all name their settings, so that these are tried there first."""
