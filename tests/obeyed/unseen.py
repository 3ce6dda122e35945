"""Settings that are accepted and cannot show in a small run, each with the reason."""

from __future__ import annotations

UNSEEN = {
    "scenario.description": "words for readers, in the scenario's page and in what `show` prints",
    "training.sweep": "when activations are freed, never what is computed (docs/semantics.md, rule 13)",
    "value.horizon": "a value is undefined in so short a run; tests/inspection measure it",
}
"""By setting: these are never sensitive."""
OBJECTS = {
    "gradient local.network": "a module",
    "gradient sobolev_label.network": "a module",
}
"""Settings whose values are Python objects: their tests are in tests/comms and tests/splitting."""
