"""What each coupling asks of a channel, and what it is refused where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import Scenario
from tests.scenarios.made import OBJECTIVE, built, network, refused

TRACE = {"gradient": {"trace": 0.5}}


def chain(*channels: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    """A document a -> b -> c, its channels a -> b and b -> c (or between the ends they give) with keys added."""
    plain: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": OBJECTIVE}}
    ends = [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}, *[{} for _ in channels[2:]]]
    return built(plain, agents, [{**e, **c} for e, c in zip(ends, (*channels, {}, {}), strict=False)])


REFUSED: list[tuple[dict[str, Any], str]] = [
    (chain({"coupling": "locked", "link": {"drop": 0.5}}), "channels[0].link.drop: a locked channel loses"),
    (chain({}, {"coupling": "unlocked"}), "channels[1].input: an unlocked channel always runs on a"),
    (chain({"gradient": {"kind": "local"}}), "channels[0].gradient.target: a local gradient needs the name"),
    (chain({"gradient": "conv", "size": [3, 4]}), "channels[0].gradient.kind: a conv gradient needs"),
    # contexts
    (chain({"input": {"context": ["image", "returned"]}}), "channels[0].input.context[1]: 'returned' is"),
    (chain({"gradient": {"context": ["held"]}}), "channels[0].gradient.context[0]: 'held' is for synthetic"),
    # synthetic inputs
    (chain({"input": {"kind": "mlp", "hidden": []}}), "channels[0].input.hidden: an mlp input has one or"),
    # feedback
    (
        chain({"coupling": "locked", "feedback": "dfa"}, {"coupling": "locked"}, b={"objective": OBJECTIVE}),
        "channels[0].feedback.of: the scenario has 2 readouts; name the agent whose error it is: b, c",
    ),
    (
        chain({"coupling": "locked", "feedback": {"kind": "dfa", "of": "d"}}, {"coupling": "locked"}),
        "channels[0].feedback.of: no agent 'd'; known: a, b, c",
    ),
    (
        chain({"coupling": "locked", "feedback": {"kind": "dfa", "of": "b"}}, {"coupling": "locked"}),
        "channels[0].feedback.of: agent 'b' has no objective; known: c",
    ),
    (chain({"coupling": "locked", "feedback": "kickback"}), "channels[0].feedback.of: agent 'c' learns"),
    (
        chain({"coupling": "locked", "feedback": "fa"}, {"size": 3}, b={"network": network}),
        ("channels[0].feedback.kind: agent 'b' has a network of its own, of which no first layer is known;"),
    ),
]

AT_ONCE = "needs what the receiver returns at the same step, but "


def late(place: str, reason: str) -> str:
    return f"channels[{place.replace('.', '].gradient.')}: {AT_ONCE}{reason}, or leave it out"


REFUSED += [
    (chain({**TRACE, "link": {"delay": 2}}), late("0.trace", "the link has a delay of 2; make it 0")),
    (
        chain({"gradient": {"propagate": 0.1}, "link": {"delay": 2}}),
        late("0.propagate", "the link has a delay of 2; make it 0"),
    ),
    (chain({**TRACE, "link": {"drop": 0.1}}), late("0.trace", "the link has a drop of 0.1; make it 0")),
    (
        chain({**TRACE, "coupling": "unlocked", "input": "linear"}),
        late("0.trace", "the channel is unlocked; make it decoupled"),
    ),
    (
        chain(TRACE, b={"clock": {"period": 2}}),
        late("0.trace", "'a' and 'b' tick at different steps; give them one clock"),
    ),
    (
        chain(TRACE, b={"clock": {"unroll": 2}}),
        late("0.trace", "'a' and 'b' learn at different steps; give them one clock"),
    ),
    (
        chain(TRACE, {"coupling": "locked"}, c={"clock": {"unroll": 2}}),
        late("0.trace", "'a' and 'b' learn at different steps; give them one clock"),
    ),
    (
        chain(TRACE, {}, {"from": "a", "to": "b", "key": 1, "coupling": "locked"}),
        late("0.trace", "both ends learn as one; make the channel locked"),
    ),
    (
        chain(TRACE, {"coupling": "delayed"}),
        late("0.trace", "'b' learns late, b->c being delayed; give that another coupling"),
    ),
    (
        chain({"gradient": {"kind": "local", "target": "label", "trace": 0.5}}),
        late("0.trace", "a local gradient takes nothing from it; use another kind"),
    ),
    (
        chain(TRACE, TRACE, {"from": "a", "to": "c", "coupling": "locked"}),
        (
            "channels[0].gradient.trace: what learns together lies on a cycle of such channels; leave it out of"
        ),
    ),
]


@pytest.mark.parametrize(("data", "line"), REFUSED, ids=[line[:60] for _, line in REFUSED])
def test_refused(data: dict[str, Any], line: str) -> None:
    assert refused(data).startswith(line)


@pytest.mark.parametrize(
    "data",
    [
        chain({"coupling": "locked", "link": {"noise": 0.1, "bits": 4, "rate": 0.5, "delay": 1}}),
        chain({"coupling": "detached", "gradient": {"kind": "conv", "trace": 1}, "feedback": "dfa"}),
        chain({"gradient": "conv"}, {"gradient": "conv"}, a={"network": "conv"}, b={"network": "conv"}),
        chain(TRACE, {"gradient": {"trace": 1, "propagate": 0.5}}),
        chain(TRACE, a={"clock": {"period": 2, "phase": -1}}, b={"clock": {"period": 2, "phase": 1}}),
        chain(TRACE, {"coupling": "locked"}, a={"clock": {"unroll": 2}}, c={"clock": {"unroll": 2}}),
        chain(
            {"coupling": "delayed"},
            {"coupling": "locked"},
            {**TRACE, "from": "a", "to": "c", "coupling": "detached"},
        ),
    ],
)
def test_accepted(data: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(data)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
