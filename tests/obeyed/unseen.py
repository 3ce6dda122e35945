"""Settings that are accepted and cannot show in a small run, each with the reason."""

from __future__ import annotations

UNSEEN = {
    "scenario.description": "words for readers, in the scenario's page and in what `show` prints",
    "training.sweep": "when activations are freed, never what is computed (docs/semantics.md, rule 13)",
    "value.horizon": "a value is undefined in so short a run; tests/inspection measure it",
}
"""By setting: these are never sensitive."""
OBJECTS = {
    "recorder wandb.project": "a service",
    "recorder mlflow.project": "a service",
    "gradient lens.network": "a module",
    "gradient lens.of": "the agent whose layers the module has",
    "gradient lens.parameters": "the parameters of the module",
    "gradient local.network": "a module",
    "gradient sobolev_label.network": "a module",
}
"""Settings whose values are Python objects: their tests are in tests/comms and tests/splitting."""
_SITES = "False where a message has no sites, and True where it has tokens, are what null means"
SOMETIMES = {
    **{
        f"gradient {kind}.sites": _SITES
        for kind in ("linear", "mlp", "critic", "sobolev", "local", "sobolev_label")
    },
    "gradient.sites": _SITES,
    "schedule cosine.scale": "an agent that has no update in so few steps has no rate either",
    "objective.reduction": "a window of one tick without missing targets has as many targets as rows",
    "objective.reward": "a small game has no reward in so few steps",
    "objective.kind": "coding and classification of one class have one loss, and other metrics",
}
"""Settings that one scene obeys while another cannot show them."""
