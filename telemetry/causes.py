"""Hints at the cause of a bad learning signal: what its channel is given, measures or reaches otherwise than the run's other channels.

Their conditions and words are defined here alone, for the Channels tab, the report and the terminal. Pure functions of numbers, without torch; `graph` is everywhere the graph of the Channels tab.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.base.by_key import by_key
from antiphon.base.errors import with_count
from antiphon.telemetry.statistics import student_t
from antiphon.telemetry.verdicts import (
    CONCLUSIONS,
    FOLLOWS,
    LOSSY,
    MISDIRECTED,
    VERDICTS,
    WORSE_THAN_MEAN,
    Hint,
    Values,
    Verdict,
    bounds,
    hops_to_readout,
    median,
    to_open,
)

INPUTS = (
    *("cosine", "parameter_cosine", *bounds("parameter_cosine"), "true_cosine"),
    *("norm_ratio", "r2", "sg_learning_rate", "age"),
)
"""Metrics of channels that hints follow from; of means over log entries the ends of the intervals count too."""
_GROUPED = 3
"""Channels with a setting from which their mean tells more than chance does."""
_FREEDOM = 30
"""Degrees of freedom from which Student's t is taken as it is there."""
_NAMED = 3
"""Channels that a sentence on settings names, at most."""
_MOST_FAULTS = 4
"""Faults of few channels that are said of a run, at most."""
_HARDLY = 0.1
"""Share of its first learning rate below which a predictor hardly learns."""
_MOST_LOST = 0.5
"""Share of lost messages from which that is said of a run, not only of the channel."""
_LARGE = 2.0
"""Times of the returned gradient from which a signal is large; of the median channel's age from which messages are old."""


class Setting(NamedTuple):
    """A setting of channels by which they may differ.

    Attributes:
        says: What stands before a channel's own.
        of: Returns a channel's, as it is read, from the graph; empty: it has none.
    """

    says: str
    key: str
    of: Callable[[Mapping[str, Any], Mapping[str, Any]], str]


def _context(channel: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    predictor = channel.get("predictor")
    return "" if predictor is None else ", ".join(predictor["context"]) or "nothing but the message"


def _losses(channel: Mapping[str, Any], cost: str) -> tuple[str, str]:
    """Return what is said of a channel's losses, and what to try; `cost`: what all losses of the run cost; empty: it is not known."""
    drop = channel.get("drop", 0.0)
    if drop < LOSSY:
        return "", ""
    told, asked = (
        (cost, "") if cost else ("what that costs is not logged", "evaluate --links as_run for the cost, or ")
    )
    lost = f"{100 * drop:.3g} % of its messages are lost, and"
    if "input" in channel.get("about", ()):
        return f"{lost} its synthetic input stands in for them ({told})", f"{asked}a smaller link.drop"
    # A predicted input may cost more than the losses, and less: neither having one nor leaving it out is advised.
    return (
        f"{lost} the last one that arrived is read instead ({told})",
        f"{asked}a smaller link.drop (a synthetic input that learns little may cost more)",
    )


def _stand_in(channel: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is said of a poor synthetic input, and what to try; empty: the channel has none."""
    if "input" not in channel.get("about", ()):
        return "", ""
    # To read the last message that arrived instead may cost more.
    return (
        "what stands in for its messages hardly resembles them (SI loss {si_loss})",
        "another rate of learning (input.optimiser.lr)",
    )


def _faint(channel: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is said of a faint signal, and what to try; empty: the channel predicts no gradient."""
    predictor = channel.get("predictor")
    if predictor is None:
        return "", ""
    if (opens := predictor.get("opens")) is not None:
        return (
            "its gate is {gate}: at 0 its sender takes no step by the synthetic gradient, as with detached",
            to_open(opens),
        )
    norms = "of norm {returned_norm} (median channel {returned_norm median})"
    if (clip := predictor.get("clip")) is not None:
        return (
            f"of a returned gradient {norms} its gradient.clip, {clip:g}, leaves {{injection_norm}}",
            "a larger gradient.clip, or none",
        )
    return (
        f"what returns is {norms}, what is injected {{injection_norm}}",
        "a larger loss of its receiver (objective.scale) if little returns, else a higher training.predictor.lr",
    )


def _downstream(
    channels: Sequence[Mapping[str, Any]], faults: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return per channel the nearest of `faults` at most two channels downstream, and what to try; empty: there is none, or it learns no
    returned gradient.

    What a receiver returns has in it what the channels that it sends on predict. A fault that most channels have is no difference.
    """
    counts = Counter(faults)
    predictors = [channel.get("predictor") for channel in channels]
    learning = [predictor is not None and "target" not in predictor for predictor in predictors]
    next_culprits: dict[int, int] = {}
    for number, channel in enumerate(channels):
        if faults[number][0] and 2 * counts[faults[number]] < len(channels):
            next_culprits.setdefault(channel["from"], number)
    later_culprits = {
        channel["from"]: next_culprits[channel["to"]]
        for channel, learns in zip(channels, learning, strict=True)
        if learns and channel["to"] in next_culprits
    }
    texts = []
    for number, channel in enumerate(channels):
        reached = [culprits.get(channel["to"], number) for culprits in (next_culprits, later_culprits)]
        culprit = next((one for one in reached if one != number), number)
        (says, fix), name = faults[culprit], channels[culprit]["name"]
        clause = "the gradient that it learns comes from downstream, where " + says.replace(
            "its", f"{name}'s", 1
        )
        texts.append((clause, f"{fix} of {name}") if learning[number] and culprit != number else ("", ""))
    return texts


SETTINGS = (
    Setting("its predictor is given", "gradient.context", _context),
    Setting(
        "its predictor is of the kind",
        "gradient.kind",
        lambda channel, _: channel.get("predictor", {}).get("kind", ""),
    ),
    Setting("its delay in steps is", "link.delay", lambda channel, _: str(channel.get("delay", 0))),
    Setting("its sender's period in steps is", "clock", lambda _, sender: str(sender.get("period", 1))),
)
"""Settings, that which most often is the cause first."""


class Peers(NamedTuple):
    """What a run's channels have in common, and what tells them apart, by the graph of the Channels tab.

    Attributes:
        settings: Per setting of `SETTINGS`, per channel.
        hops: [channels]: channels from the receiver to a readout; nan: none leads there.
        ends: [channels]: whether the receiver sends nothing on, or back to the sender alone; neither is a readout.
        missing: Per channel, the targets of objectives that its predictor, without context, could be given; empty: none.
        fast: Per channel, what is said of a predictor that learns far faster than its sender, and what to try; empty: it does not.
        slow: The same of one that hardly learns while its sender does.
        fast_if_poor: The same of one that learns many times as fast, if at least half of the channels have such a predictor.
        faster: The same of one that learns many times as fast, if most channels have no such predictor.
        overshooting: Per channel, what is said of agents whose steps are too long, and what to try; empty: they are not.
        early: After how few steps of training it is too early for verdicts on what is learned; empty: it is not.
        losses: Per channel, what is said of many lost messages, and what to try; empty: there are none.
        stand_ins: Per channel, what is said of a synthetic input that is poor, and what to try; empty: it has none.
        faint: Per channel, what is said of a faint signal, and what to try.
        downstream: Per channel, the nearest fault of settings among the channels that what it learns comes from, and what to try; empty: none.
        instead: Per channel, what its learning signal can be replaced with.
        scales: [channels]: `gradient.scale`; nan: of no predictor.
        typed: Per channel, what sets some of its settings instead of their usual places, by these: parameters of a template, which a command
            takes alone, and the optimiser of its predictor's own.
    """

    settings: Sequence[Sequence[str]]
    hops: NDArray[np.float64]
    ends: NDArray[np.bool_]
    missing: Sequence[str]
    fast: Sequence[tuple[str, str]]
    slow: Sequence[tuple[str, str]]
    fast_if_poor: Sequence[tuple[str, str]]
    faster: Sequence[tuple[str, str]]
    overshooting: Sequence[tuple[str, str]]
    early: str
    losses: Sequence[tuple[str, str]]
    stand_ins: Sequence[tuple[str, str]]
    faint: Sequence[tuple[str, str]]
    downstream: Sequence[tuple[str, str]]
    instead: Sequence[str]
    scales: NDArray[np.float64]
    typed: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, graph: Mapping[str, Any]) -> Peers:
        """Read the graph of the Channels tab."""
        agents, channels = graph["agents"], graph["channels"]
        hops = [np.nan if distance is None else distance for distance in hops_to_readout(graph)]
        ends = [
            channel["from"] != channel["to"]
            and 0 not in (hops[channel["from"]], hops[channel["to"]])
            and ends_there
            for channel, ends_there in zip(channels, _ends(graph), strict=True)
        ]
        predictors = [channel.get("predictor", {}) for channel in channels]
        fast = [tuple(predictor.get("fast", ("", ""))) for predictor in predictors]
        slow = [tuple(predictor.get("slow", ("", ""))) for predictor in predictors]
        if_poor = [tuple(predictor.get("fast_if_poor", ("", ""))) for predictor in predictors]
        counts = Counter(if_poor)
        losses = [_losses(channel, graph.get("cost_of_losses", "")) for channel in channels]
        return cls(
            [[setting.of(channel, agents[channel["from"]]) for channel in channels] for setting in SETTINGS],
            np.array([hops[channel["to"]] for channel in channels]),
            np.array(ends, dtype=np.bool_),
            [" or ".join(predictor.get("lacks", ())) for predictor in predictors],
            fast,
            slow,
            [one if 2 * counts[one] >= len(channels) else ("", "") for one in if_poor],
            [one if 2 * counts["", ""] > len(channels) else ("", "") for one in if_poor],
            [tuple(graph.get("overshooting", ("", "")))] * len(channels),
            graph.get("early", ""),
            losses,
            [_stand_in(channel) for channel in channels],
            [_faint(channel) for channel in channels],
            _downstream(
                channels,
                [
                    next((fault for fault in faults if fault[0]), ("", ""))
                    for faults in zip(fast, slow, losses, strict=True)
                ],
            ),
            [
                "local, or detached" if predictor and "target" not in predictor else "coupling: detached"
                for predictor in predictors
            ],
            np.array([predictor.get("scale", np.nan) for predictor in predictors]),
            [channel.get("typed", {}) for channel in channels],
        )

    def other(self, setting: int) -> dict[str, str]:
        """Return, by each value of a setting, the other value that most channels have; nothing where all are alike."""
        counts = Counter(value for value in self.settings[setting] if value)
        order = [value for value, _ in counts.most_common()]
        return {
            value: next(alternative for alternative in order if alternative != value)
            for value in order
            if len(order) > 1
        }

    def texts(self, setting: int) -> list[tuple[str, str]]:
        """Return, per channel, how a setting differs from what others have, and the setting of those; empty: it does not."""
        values, alternatives = self.settings[setting], self.other(setting)
        counts, says = Counter(values), SETTINGS[setting]
        total = sum(counts[value] for value in alternatives)
        return [
            (
                f"{says.says} {value}, not {alternatives[value]} as with {counts[alternatives[value]]} of the other {total - 1} channels",
                f"{says.key}: {alternatives[value]}",
            )
            if value in alternatives
            else ("", "")
            for value in values
        ]


class Cause(NamedTuple):
    """A hint at a cause.

    Attributes:
        flag: Its bit; 0: it follows from settings alone, and holds wherever it has a text.
        says: A clause, with each number as its metric's name in braces, that of the median channel as "{metric median}", the
            inverse as "{1/metric}", its own of `texts` as "{text}", where the receiver stands as "{way}".
        fix: What to try, with the same in braces and the setting of `texts` as "{fix}"; empty: nothing is known.
        texts: Returns per channel a text and a setting, empty where the hint does not hold; None: it is of metrics.
        also: Verdicts that it explains, besides those on learning signals (`BAD`).
        common: Whether it is said once for the run where it holds alike of most channels, whatever their verdicts.
        brief: What a channel of which it is said by name does, in a few words; empty: none is named.
        always: Whether it is a hint whatever the verdicts, also where there is none.
        alone: Whether it is one with the verdicts of `also` alone.
    """

    flag: int
    says: str
    fix: str = ""
    texts: Callable[[Peers], Sequence[tuple[str, str]]] | None = None
    also: Sequence[Verdict] = ()
    common: bool = False
    brief: str = ""
    always: bool = False
    alone: bool = False


BAD: tuple[Verdict, ...] = ("harms", "worse", "broken", "against")
"""Verdicts on learning signals that ask for a cause."""
_SURELY, _MEASURED, _MAYBE = 1 << 0, 1 << 4, 1 << 9
# A check of the scenario warns of it too, so that no verdict is needed.
_FAST = Cause(
    0,
    "{text}",
    "{fix}",
    lambda peers: peers.fast,
    common=True,
    brief="learns too fast",
    always=True,
)
_SLOW = _FAST._replace(texts=lambda peers: peers.slow, brief="hardly learns")
_OVERSHOOTING = Cause(0, "{text}", "{fix}", lambda peers: peers.overshooting, common=True)
_FASTER = _FAST._replace(texts=lambda peers: peers.faster, common=False, brief="")
_EARLY = Cause(
    0,
    "{text}",
    "more steps",
    lambda peers: [(peers.early, "")] * len(peers.instead),
)
FAST_IF_POOR = Cause(
    _MEASURED << 4,
    f"{{text}}, and the median cosine is below {FOLLOWS:g}",
    "{fix}",
    lambda peers: peers.fast_if_poor,
    tuple(VERDICTS),
)
"""The hint at predictors that learn many times as fast as their senders, said of the run where it holds."""
_WITHOUT_CONTEXT = Cause(
    0,
    "its predictor has no context",
    "gradient.context: {text}, or local",
    lambda peers: [(targets, "") for targets in peers.missing],
    brief="no context",
)
_LOSSES = Cause(
    0,
    "{text}",
    "{fix}",
    lambda peers: peers.losses,
    common=True,
    brief="loses messages",
    always=True,
)
_STAND_IN = Cause(0, "{text}", "{fix}", lambda peers: peers.stand_ins, ("misguessed",), alone=True)
_FAINT = Cause(0, "{text}", "{fix}", lambda peers: peers.faint, ("faint",), alone=True)
_VICTIM = Cause(1 << 17, "{text}", "{fix}", lambda peers: peers.downstream, always=True)
_OF_SETTINGS = (
    _OVERSHOOTING,
    _FAST,
    _SLOW,
    _FASTER,
    FAST_IF_POOR,
    _WITHOUT_CONTEXT,
    _STAND_IN,
    _LOSSES,
    _FAINT,
    Cause(0, "{text}", "{fix}", lambda peers: peers.downstream, ("misleads",)),
    _VICTIM,
)
_SURE = [
    Cause(
        _SURELY << setting,
        "{text}; those are better aligned by more than chance",
        "{fix}",
        partial(Peers.texts, setting=setting),
    )
    for setting in range(len(SETTINGS))
]
_OF_METRICS: tuple[Cause, ...] = (
    Cause(
        _MEASURED << 0,
        "it is {norm_ratio} times as large as the returned gradient",
        "gradient.scale: {1/norm_ratio}",
    ),
    Cause(
        _MEASURED << 1,
        "single batches mislead: over many batches its cosine with the true gradient is {true_cosine} (true cosine)",
    ),
    Cause(
        _MEASURED << 2,
        "its predictor's learning rate has fallen to {sg_learning_rate}, less than a tenth of its first",
        "a slower schedule (training.predictor.schedule)",
    ),
    Cause(
        _MEASURED << 3,
        "its newest message is {age} steps old, that of the median channel {age median}",
        "a shorter link.delay, or a faster clock of its sender",
    ),
)
_OF_PREDICTORS = (
    *(Cause(flag, *advice) for flag, advice in CONCLUSIONS.items()),
    Cause(
        MISDIRECTED.flag,
        "it follows the returned gradient of single messages (cosine {cosine}), but moves its sender far less along the true "
        "gradient (parameter cosine {parameter_cosine})",
        "local, or more context (gradient.context)",
    ),
)
_PERHAPS = [
    Cause(
        _MAYBE << setting,
        "{text}; those are better aligned on average",
        "{fix}",
        partial(Peers.texts, setting=setting),
    )
    for setting in range(len(SETTINGS))
]
_OF_INTERVALS = (
    Cause(
        _MAYBE << 4,
        "it does not move its sender along the true gradient, as the median channel's does: parameter cosine {parameter_cosine}, median "
        "{parameter_cosine median}",
        "local, or more context (gradient.context)",
    ),
    Cause(
        WORSE_THAN_MEAN.flag,
        "it predicts worse than the mean of the returned gradients: R² {r2}, median {r2 median}",
        "more steps, or another rate of learning (training.predictor.lr)",
    ),
)
_OF_PLACE = Cause(_MAYBE << 6, "{way}: little of the readouts' loss returns from there")
_UNKNOWN = Cause(
    0,
    "{text}",
    "{fix}",
    lambda peers: [
        ("no setting and no metric in which it differs from the other channels names it", instead)
        for instead in peers.instead
    ],
)
CAUSES = (
    *_OF_SETTINGS,
    _EARLY,
    *_SURE,
    *_OF_METRICS,
    *_OF_PREDICTORS,
    *_OF_INTERVALS,
    *_PERHAPS,
    _OF_PLACE,
    _UNKNOWN,
)
"""Hints, that with the most evidence first: an average of few channels comes after the channel's own intervals; the last one where there is no other; those of `CONCLUSIONS` and `MISDIRECTED` have the flags of these. A sum of all flags is exact in float32."""


def ways(graph: Mapping[str, Any]) -> list[str]:
    """Return where the receiver of each channel stands, in the graph of the Channels tab; empty: nothing is to be said."""
    hops, sentences = hops_to_readout(graph), []
    for channel, ends_there in zip(graph["channels"], _ends(graph), strict=True):
        ends = channel["from"], channel["to"]
        sender, receiver = (graph["agents"][end]["name"] for end in ends)
        far = hops[channel["to"]]
        if ends[0] == ends[1] or all(distance is None for distance in hops):
            sentences.append("")
        elif far is None:
            sentences.append(f"no path leads from {receiver} to a readout")
        elif far == 0:
            sentences.append(f"{receiver} is a readout")
        else:
            told = f"{with_count(far, 'channel')} from a readout"
            only_back = f"{receiver}, {told}, sends only back to {sender}"
            sentences.append(only_back if ends_there else f"{receiver} is {told}")
    return sentences


def _ends(graph: Mapping[str, Any]) -> list[bool]:
    """Return of each channel whether its receiver sends nothing on, or back to the sender alone."""
    onward = by_key((channel["from"], channel["to"]) for channel in graph["channels"])
    return [
        {*onward.get(channel["to"], ())} <= {channel["from"], channel["to"]} for channel in graph["channels"]
    ]


def hints_of(graph: Mapping[str, Any]) -> list[tuple[Cause, list[Hint | None]]]:
    """Return the hints of a run in the order of `CAUSES`, those that are said of the run first (`common_hints`), each with what it says of every
    channel; None where no setting calls for it.
    """
    peers, way = Peers.of(graph), ways(graph)
    hints = [(cause, _hints(cause, peers, way)) for cause in CAUSES]
    return sorted(hints, key=lambda pair: not (pair[0].common and _common(*pair)))


def common_hints(graph: Mapping[str, Any]) -> dict[Hint, str]:
    """Return the hints that hold alike of most of a run's channels by their settings, whatever their verdicts, each as a sentence on the run."""
    channels = len(graph["channels"])
    return {
        hint: f"{_many(cause, count, channels)}{hint.says}; try {hint.fix}"
        for cause, hints in hints_of(graph)
        if cause.common
        for hint, count in _common(cause, hints).items()
    }


def _many(cause: Cause, count: int, channels: int) -> str:
    """Return of how many channels a cause is said; empty: it is of the agents."""
    if cause is _OVERSHOOTING:
        return ""
    return f"{'each' if count == channels else f'{count:,}'} of {channels:,} channels: "


def _common(cause: Cause, hints: Sequence[Hint | None]) -> dict[Hint, int]:
    """Return what a cause says alike of most channels, and of how many; of one alone what is of its agents."""
    counts, least = Counter(hint for hint in hints if hint), 1 if cause is _OVERSHOOTING else 2
    return {hint: count for hint, count in counts.items() if count >= least and 2 * count >= len(hints)}


def hints_if_poor(graph: Mapping[str, Any]) -> list[str]:
    """Return what is said of a run where the flag of `FAST_IF_POOR` is set of a channel; `graph`: as for `hints_of_run`."""
    hints = dict(hints_of(graph))[FAST_IF_POOR]
    return [
        f"{count:,} of {len(hints):,} channels: {hint.says}; try {hint.fix}"
        for hint, count in Counter(hint for hint in hints if hint).items()
    ]


def hints_of_run(graph: Mapping[str, Any]) -> list[str]:
    """Return what is said of a run's settings whatever was measured: `common_hints`, and the few channels, by cause, whose predictor learns
    too fast, most of whose messages are lost, or whose predictor has no context.
    """
    named = [
        (hint, [graph["channels"][number]["name"] for number in of])
        for (_, hint), of in _faults(graph).items()
    ]
    return [
        *common_hints(graph).values(),
        *(
            f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}: {hint.says}; try {hint.fix}"
            for hint, names in named[:_MOST_FAULTS]
        ),
    ]


def culprits(graph: Mapping[str, Any]) -> dict[int, str]:
    """Return the channels that `hints_of_run` names, by number, in its order, each with what is wrong in a few words."""
    briefs: dict[int, str] = {}
    for (cause, _), numbers in _faults(graph).items():
        for number in numbers:
            briefs.setdefault(number, cause.brief)
    return briefs


def _faults(graph: Mapping[str, Any]) -> dict[tuple[Cause, Hint], list[int]]:
    """Return the faults of settings of a few channels, with the numbers of these."""
    common, channels = common_hints(graph), graph["channels"]
    faults: dict[tuple[Cause, Hint], list[int]] = {}
    for cause, hints in hints_of(graph):
        # What half of the channels do without is no fault of a few.
        if cause in (_FAST, _SLOW, _LOSSES) or (
            cause is _WITHOUT_CONTEXT and 2 * sum(map(bool, hints)) < len(channels)
        ):
            for number, (channel, hint) in enumerate(zip(channels, hints, strict=True)):
                is_told = cause is not _LOSSES or channel.get("drop", 0.0) >= _MOST_LOST
                if hint is not None and is_told and hint not in common:
                    faults.setdefault((cause, hint), []).append(number)
    return faults


def _hints(cause: Cause, peers: Peers, where: Sequence[str]) -> list[Hint | None]:
    def filled(clause: str, text: str, fix: str, way: str) -> str:
        return clause.replace("{text}", text).replace("{fix}", fix).replace("{way}", way)

    def named(clause: str, typed: Mapping[str, str]) -> str:
        for key, parameter in typed.items():
            clause = clause.replace(key, parameter)
        return clause

    texts = [("", "")] * len(where) if cause.texts is None else cause.texts(peers)
    return [
        None
        if cause.texts is not None and not text
        else Hint(filled(cause.says, text, fix, way), named(filled(cause.fix, text, fix, way), typed))
        for (text, fix), way, typed in zip(texts, where, peers.typed, strict=True)
    ]


def cause_flags(metrics: Mapping[str, Values], peers: Peers) -> NDArray[np.uint32]:
    """Return which hints hold of channels as the sum of their flags, [..., channels].

    Args:
        metrics: Values by metric (`INPUTS`), [..., channels] each, nan where a channel has none, of learning rates their share of
            the first; a hint is left out if its metric is missing.
    """
    shape = np.broadcast_shapes(peers.hops.shape, *(values.shape for values in metrics.values()))
    nothing = np.full(shape, np.nan, dtype=np.float32)

    def read(metric: str) -> Values:
        return np.broadcast_to(metrics.get(metric, nothing), shape)

    cosine, parameter, ratio = read("cosine"), read("parameter_cosine"), read("norm_ratio")
    low = read(bounds("norm_ratio")[0])
    age, lost = read("age"), np.isnan(peers.hops)
    of_metrics = (
        (ratio * peers.scales > _LARGE) & (low * peers.scales > 1),
        (read("true_cosine") >= FOLLOWS) & (cosine < FOLLOWS),
        read("sg_learning_rate") < _HARDLY,
        (age >= _LARGE * median(age)) & (age >= median(age) + 1),
    )
    flags = np.zeros(shape, dtype=np.uint32)
    is_upstream = np.array([bool(text) for text, _ in peers.downstream], dtype=np.bool_)
    flags[is_upstream & (cosine < FOLLOWS) & (median(cosine) >= FOLLOWS)] |= _VICTIM.flag
    is_poor = np.isfinite(cosine).any(-1, keepdims=True) & (median(cosine) < FOLLOWS)
    last = (
        (read(bounds("parameter_cosine")[1]) < FOLLOWS) & (median(parameter) >= FOLLOWS),
        read(bounds("r2")[1]) < 0,
        np.broadcast_to((peers.ends | lost) & ~lost.all(), shape),
    )
    flags[is_poor & np.array([bool(text) for text, _ in peers.fast_if_poor], dtype=np.bool_)] |= (
        FAST_IF_POOR.flag
    )
    for causes, conditions in ((_OF_METRICS, of_metrics), ((*_OF_INTERVALS, _OF_PLACE), last)):
        for cause, holds in zip(causes, conditions, strict=True):
            flags[holds] |= cause.flag
    aligned = np.where(np.isfinite(parameter).any(-1, keepdims=True), parameter, cosine)
    for setting, (sure, perhaps) in enumerate(zip(_SURE, _PERHAPS, strict=True)):
        better, surely = _better_aligned(aligned, peers, setting)
        flags[surely] |= sure.flag
        flags[better & ~surely] |= perhaps.flag
    return flags


def _better_aligned(
    aligned: Values, peers: Peers, setting: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether the channels with the other value of a setting are better aligned on average, and, among those as far from a
    readout, by more than chance in this run; [..., channels] each."""
    better, surely = (np.zeros(aligned.shape, dtype=np.bool_) for _ in range(2))
    values = np.array(peers.settings[setting])
    for value, alternative in peers.other(setting).items():
        has_value = values == value
        better[..., has_value] = _apart(
            aligned[..., has_value], aligned[..., values == alternative], chance=False
        )[..., None]
        for hops in np.unique(peers.hops[has_value & np.isfinite(peers.hops)]):
            near = peers.hops == hops
            mine, theirs = has_value & near, (values == alternative) & near
            if min(mine.sum(), theirs.sum()) >= _GROUPED:
                surely[..., mine] = _apart(aligned[..., mine], aligned[..., theirs], chance=True)[..., None]
    return better, surely


def _apart(mine: Values, theirs: Values, *, chance: bool) -> NDArray[np.bool_]:
    """Return whether the mean of `theirs` over channels is larger, by more than `chance` leaves, [...]."""
    (few, mean_mine, spread), (many, mean_theirs, more) = (_mean(values) for values in (mine, theirs))
    least = np.minimum(few, many)
    if not chance:
        is_larger: NDArray[np.bool_] = (least > 0) & (mean_theirs > mean_mine)
        return is_larger
    quantile = np.array([student_t(freedom) for freedom in range(1, _FREEDOM + 1)])
    half = quantile[np.clip(least - 2, 0, _FREEDOM - 1)] * np.sqrt(spread + more)
    sure: NDArray[np.bool_] = (least >= _GROUPED) & (mean_theirs - mean_mine > half)
    return sure


def _mean(values: Values) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return how many numbers there are, their mean, and its variance, [...]."""
    finite = np.isfinite(values)
    counts = finite.sum(-1)
    means = np.where(finite, values, 0.0).sum(-1) / np.maximum(counts, 1)
    squares = np.where(finite, values - means[..., None], 0.0) ** 2
    return counts, means, squares.sum(-1) / np.maximum(counts - 1, 1) / np.maximum(counts, 1)
