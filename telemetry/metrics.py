"""Metrics and description of a run, and the interface of recorders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict

from antiphon.base.errors import named
from antiphon.base.spec import channel_name
from antiphon.telemetry.timeline_text import Timeline

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np

EVALUATED = ("train", "validation", "test")
"""Splits whose names begin the metrics of an evaluation during training: `validation_loss`."""
SCORES = ("accuracy", "error", "bits", "return")
"""Metrics of objectives beside the loss, in order of display."""
METRICS = (*SCORES, "loss")
"""Metrics of objectives, in order of display."""
VALUE_TARGET = "value_target"
"""Metric of a policy: the mean return that it learns from, discounted, and bootstrapped at the end of a window."""


def bounds(metric: str) -> tuple[str, str]:
    """Return the names of the metrics of the ends of a metric's 95 % interval."""
    return f"{metric}_low", f"{metric}_high"


def end_of(metric: str) -> Literal["sender", "receiver"]:
    """Return the end of a channel that has a metric: in parts it is measured there alone. A log entry has a receiver's last."""
    return "receiver" if metric == "si_loss" else "sender"


Kind: TypeAlias = Literal["agent", "channel", "part", "env", "run"]
"""What a metric belongs to. Metrics of the environment and of the whole run have an empty name; a part's name is its number."""


class Metric(NamedTuple):
    """One metric of an agent, a channel, a part, the environment or the whole run, at one step.

    Attributes:
        kind: What the metric belongs to.
        name: The agent's or the channel's name ("a->b"), or a part's number; empty for the environment and the run.
        metric: Name of the metric, such as "loss" or "sg_loss".
        value: The value; it may be nan or infinite.
    """

    kind: Kind
    name: str
    metric: str
    value: float


@dataclass(kw_only=True, slots=True)
class PartMetrics:
    """Progress and costs of one part; times, bytes and calls are totals since the session began.

    Seconds are wall-clock time, in a virtual run simulated time. The metrics do not affect the run.
    """

    part: int
    """Number of the part, from 0."""
    machine: str = ""
    """Where it runs: a host, with its device if there are several, or a machine of a cluster profile."""
    steps_taken: int = 0
    """Environment steps taken since step 0 of the run."""
    seconds: float = 0.0
    """Seconds since the session began."""
    computing: float = 0.0
    """Seconds spent computing steps."""
    waiting: float = 0.0
    """Seconds spent waiting for other parts."""
    bytes_sent: int = 0
    """Bytes sent to all other parts together."""
    bytes_received: int = 0
    """Bytes received from all other parts together."""
    calls: int = 0
    """Exchanges sent."""

    @property
    def metrics(self) -> dict[str, float]:
        """Its metrics by name, for curves."""
        return {name: value for name, value in asdict(self).items() if name not in ("part", "machine")}


SampleRow: TypeAlias = "tuple[str, np.ndarray[Any, Any]]"
"""(channel, messages [samples, size + 1]): some of a channel's newest messages; last is the label, nan without a label."""


class Names(TypedDict):
    """Every agent and channel of a run, in canonical order."""

    agents: Sequence[str]
    channels: Sequence[tuple[str, str]]
    """(name, slug) of each channel: ("a->b", "a__to__b")."""


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """Description of a run, passed to recorders before the first metrics."""

    graph: nx.MultiDiGraph  # type: ignore[type-arg]
    """Nodes are agents with `role` ("readout", "agent" or "frozen"), `period`, `phase` (steps) and `unroll` (ticks), in
    a run in parts also the number of their `part`. Edges are channels, keyed as in the scenario, with `coupling`, `delay`
    (steps), `drop` (probability), `size` (components) and `carries` ("state" for a channel that carries an agent's state
    to itself). Both may have `about`: texts by heading, for display. A missing attribute means an ordinary agent, or a
    locked channel without delay."""
    names: Names
    scenario: str = ""
    period: int = 1
    """Steps between two log entries."""
    until: int = 0
    """The last step of the run."""
    start_step: int = 0
    """Steps done before this session: 0 for a new run, the checkpoint's step for a resumed one."""
    max: int = 32
    """Number of agents, and of channels, that get curves of their own in a larger graph."""
    timeline: Timeline | None = None
    """Timeline of the first steps; None: it is not computed, or was recorded before."""

    @cached_property
    def edges(self) -> dict[str, tuple[str, str, int | str]]:
        """The edge (sender, receiver, key) of each channel by name."""
        return {channel_name(*edge): edge for edge in self.graph.edges(keys=True)}

    @cached_property
    def agents(self) -> list[str]:
        """The agents in the graph, in the order of the tab."""
        named = [name for name in self.names["agents"] if name in self.graph]
        return list(dict.fromkeys([*named, *self.graph.nodes]))

    @cached_property
    def channels(self) -> list[str]:
        """The channels in the graph, in the order of the tab."""
        return [name for name, _ in self.names["channels"] if name in self.edges]

    @cached_property
    def parts(self) -> int:
        """The number of parts that compute the run; 0: it is not in parts."""
        placed = (attributes.get("part", -1) for _, attributes in self.graph.nodes(data=True))
        return 1 + max(map(int, placed), default=-1)


class Recorder:
    """Base of recorders; subclasses override the calls that they use.

    Calls come in the order begin, (metrics | samples | parts | sync)*, end?, close. A recorder may raise RunError
    where it cannot write; it uses no random numbers and changes no argument.
    """

    def begin(self, description: RunDescription) -> None:
        """Open the files. Called once, before any metrics."""

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        """Write and flush the metrics of one step. Steps ascend."""

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """Write sampled messages of one step."""

    def parts(self, step: int, rows: Sequence[PartMetrics]) -> None:
        """Write the metrics of the parts of a run in parts, in order; may be called several times at one step."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Write the result of a finished run (the object of `--json`)."""

    def sync(self) -> None:
        """Write all recorded data to the disk; called before each checkpoint, from which the run can be resumed."""

    def close(self) -> None:
        """Close all files, also after an error; a second call does nothing."""


_FOREIGN = re.compile(r"[^A-Za-z0-9_.\-]")


def tag_part(text: str) -> str:
    """Return a name as one part of a TensorBoard tag: letters, digits and `_ . -` only, never a slash.

    A name that is changed gets eight digits of its hash, so that two names never share a tag.

    Args:
        text: Any text; names from a scenario are returned unchanged.
    """
    if text and not _FOREIGN.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_FOREIGN.sub('_', text)[:64]}-{digest}"


def call_each(recorders: Iterable[Recorder], method: str, *arguments: Any) -> None:
    """Call a method of recorders, which may be a user's."""
    for recorder in recorders:
        with named(f"simulation.recorders, {type(recorder).__qualname__}.{method}"):
            getattr(recorder, method)(*arguments)
