"""Scenes for settings that show in none of the contracts' documents: evaluation, telemetry, symbols, and goals over data."""

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
_TELEMETRY: Document = {
    "period": 4,
    "max": 2,
}
_TOLD: Document = {"kind": "linear", "context": ["label"]}


def _digits(*channels: Document, hand: Document | None = None, **keys: object) -> Document:
    agents = {"eye": _EYE, "hand": {**_HAND, **(hand or {})}, "other": {**_HAND, "observes": ["image"]}}
    agents["twin"] = agents["other"]
    ends: list[Document] = [{"from": "eye", "to": "hand", **channel} for channel in channels]
    document: Document = {"scenario": "digits", "env": _DIGITS, "agents": agents, "channels": ends}
    return {**document, "training": _TRAINING, **keys}


SCENES: dict[str, Document] = {
    "evaluated": _digits(
        {"size": 3, "gradient": _TOLD},
        readout=["other"],
        training={**_TRAINING, "batch": 16, "optimiser": {"kind": "adam", "lr": 0.5}, "evaluate": _EVALUATE},
        telemetry=_TELEMETRY,
    ),
    "parallel channels": _digits(
        {"size": 3, "key": "first", "gradient": _TOLD}, {"size": 3, "key": "second", "link": {"delay": 1}}
    ),
    "told": _digits(
        {"size": 3, "gradient": _TOLD, "link": {"delay": [1, 1]}}, training={**_TRAINING, "steps": 6}
    ),
    "several ticks": _digits(
        {"size": 3, "gradient": _TOLD},
        hand={"clock": {"unroll": 2}, "objective": {**_HAND["objective"], "reduction": "batchmean"}},
    ),
    "symbols of digits": _digits(
        {"sample": {"kind": "gumbel", "vocabulary": 3, "size": 2, "temperature": 0.7}, "gradient": _TOLD}
    ),
    "best symbols of digits": _digits(
        {"sample": {"kind": "argmax", "vocabulary": 3, "size": 2, "temperature": 0.7}, "gradient": _TOLD}
    ),
    "hidden layers of states": _digits(
        {"size": 3, "gradient": _TOLD},
        hand={"network": {"kind": "gru", "hidden": [4], "size": 3, "norm": "layer", "activation": "relu"}},
    ),
    "hidden layers of plain states": _digits(
        {"size": 3, "gradient": _TOLD},
        hand={"network": {"kind": "rnn", "hidden": [4], "size": 3, "norm": "layer", "activation": "relu"}},
    ),
}
"""Documents by name; all name their settings, so that these are tried there first."""
