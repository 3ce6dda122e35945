"""Values of settings whose other values do not follow from their type: names of signals and agents, sections, kinds."""

from __future__ import annotations

from typing import Any

_SCHEDULE = {"kind": "linear", "scale": 0.0}
_OPTIMISER = {"kind": "sgd", "lr": 0.05}
_NAMES = ["label", "goal", "aim", "x", "y", "z", "image", "observation", "following"]
"""Signals of the environments of the scenes."""
_WITH_SITES = (" ridge", " linear", " mlp", " critic", " sobolev", " local", " sobolev_label")
_SIGNALS = [[name] for name in _NAMES]

GIVEN: dict[str, list[Any]] = {
    "scenario.description": ["Other words."],
    "scenario.readout": [["hand"]],
    "scenario.share": [[["n0.0.weight", "n1.0.weight"]], [["a.0.bias", "b.0.bias"]]],
    "agent.observes": _SIGNALS,
    "agent.normalise": _SIGNALS,
    "agent.network": [{"kind": "mlp", "hidden": [3], "norm": "none"}],
    "network.kind": ["gru", "rnn", "mlp"],
    "agent.clock": [{"period": 3}, {"unroll": 2}],
    "agent.objective": [{"kind": "classification", "target": "label", "scale": 0.5}],
    "agent.parameters": ["nowhere:eye"],
    "agent.optimiser": [_OPTIMISER],
    "agent.share": ["all"],
    "objective.kind": ["regression", "coding", "classification", "a2c", "reinforce"],
    "objective.target": _NAMES,
    "objective.reward": ["reward", "solved", {"reward": 0.5}],
    "objective.mask": ["observation"],
    "objective.critic": [{"observes": ["x"], "network": {"kind": "mlp", "hidden": [3], "norm": "none"}}],
    "critic.observes": _SIGNALS,
    "critic.normalise": _SIGNALS,
    "critic.network": [{"kind": "mlp", "hidden": [5], "norm": "none"}],
    "goal.channel": ["boss->hand:second"],
    "goal.observes": ["observation", "position"],
    "objective.goal": [{"channel": "boss->hand", "observes": "observation"}],
    "channel.mask": ["near", "open"],
    "channel.port": ["other"],
    "channel.from": ["b"],
    "channel.to": ["b"],
    "channel.key": ["other"],
    "channel.coupling": ["detached", "locked", "delayed"],
    "coupling.kind": ["detached", "locked", "decoupled"],
    "channel.sample": [{"kind": "gumbel", "vocabulary": 4}],
    "channel.gradient": [{"kind": "linear"}, {"kind": "mlp", "hidden": [3], "norm": "none"}],
    "channel.input": [{"kind": "linear"}, None],
    "channel.link": [{"delay": 1}, {"delay": 2, "noise": 0.5}],
    "gradient.kind": ["mlp", "critic", "linear"],
    "gradient.context": [*_SIGNALS, []],
    "gradient.optimiser": [_OPTIMISER],
    "input.kind": ["mlp", "linear"],
    "input.context": _SIGNALS,
    "input.optimiser": [_OPTIMISER],
    "sample.kind": ["argmax", "gumbel"],
    "schedule.kind": ["cosine", "linear", "constant"],
    "optimiser.kind": ["sgd", "adam", "RMSprop"],
    "optimiser.schedule": [_SCHEDULE],
    "training.optimiser": [_OPTIMISER],
    "training.predictor": [_OPTIMISER],
    "training.evaluate": [{"period": 2, "keep_best": "accuracy"}],
    "scenario.training": [{"batch": 3, "steps": 5}],
    "scenario.telemetry": [{"period": 2}],
    "telemetry.period": [2],
    "telemetry.max": [1],
    **{f"schedule {kind}.scale": [0.9] for kind in ("steps", "cosine", "linear")},
    **{f"gradient{kind}.sites": [True, False] for kind in ("", *_WITH_SITES)},
    "evaluate.split": ["train", "test"],
    "evaluate.episodes": [2],
    "evaluate.keep_best": ["loss", None],
    "evaluate.patience": [{"accuracy": 1, "loss": 1}, {"loss": 1}],
    "schedule steps.at": [[0.1, 0.2], [0.3]],
    **{f"gradient {kind}.target": _NAMES for kind in ("local", "sobolev_label")},
}
"""Values to try in turn, by setting; the first that a scene accepts is tried, and after it the next, until one has an effect."""
UNSEEN = {
    "scenario.description": "words for readers, in the scenario's page and in what `show` prints",
    "training.sweep": "when activations are freed, never what is computed (docs/semantics.md, rule 13)",
    "network posterior.norm": "of hidden layers, which no scene's has",
    "network posterior.activation": "of hidden layers, which no scene's has",
}
"""By setting: these are never sensitive."""
OBJECTS = {
    "gradient local.network": "a module",
    "gradient sobolev_label.network": "a module",
}
"""Settings whose values are Python objects: their tests are in tests/comms and tests/splitting."""
