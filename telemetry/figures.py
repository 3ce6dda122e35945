"""Figures and description of a run, and the interface of recorders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np

    from antiphon.telemetry.parts.part_figures import PartFigures
    from antiphon.telemetry.timeline import Timeline

WALL_CLOCK = ("seconds", "steps_per_second", "value_seconds")
"""Figures of a run that differ from one machine, and one time, to the next."""
EVALUATED = ("train", "validation", "test")
"""Splits by whose name the figures of an evaluation during the training begin: `validation_loss`."""
_MEASURED = ("value", "value_low", "value_high", "parameter_cosine", "value_seconds")


def is_measured(metric: str) -> bool:
    """Whether a figure is measured at an interval of its own, seldom: a value, or one of an evaluation (`validation_loss`)."""
    return metric in _MEASURED or metric.startswith(tuple(f"{split}_" for split in EVALUATED))


Kind: TypeAlias = Literal["agent", "channel", "part", "env", "run"]
"""Kind of a figure. Figures of the environment or the whole run have an empty name; a part's is its number."""


class Figure(NamedTuple):
    """One value of an agent, a channel, a part or the whole run, at one step.

    Attributes:
        kind: Of its subject.
        name: The agent's or the channel's name ("a->b"); empty for the environment and the run.
        metric: Such as "loss" or "sg_loss".
        value: The number; it may be nan or infinite.
    """

    kind: Kind
    name: str
    metric: str
    value: float


HistogramRow: TypeAlias = "tuple[Kind, str, str, np.ndarray[Any, Any]]"
"""(kind, name, metric, values): as `Figure`, with an array of any shape in place of the number."""

SampleRow: TypeAlias = "tuple[str, np.ndarray[Any, Any]]"
"""(channel, messages [samples, size + 1]): some of a channel's newest messages; last is the label, nan without one."""


class Names(TypedDict):
    """Every agent and channel of a run, in canonical order."""

    agents: Sequence[str]
    channels: Sequence[tuple[str, str]]
    """(name, slug) of each channel: ("a->b", "a__to__b")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDescription:
    """Description of a run, passed to recorders before the first figure."""

    yaml: str
    """The resolved scenario as a document (any text where it has none)."""
    hparams: Mapping[str, float | int | str | bool]
    """The values that distinguish this run in a study."""
    graph: nx.MultiDiGraph[str]
    """Nodes are agents with `role` ("readout", "agent" or "frozen"), `period`, `phase` (steps) and `unroll` (ticks), in
    a run in parts with the number of their `part`; edges are channels, keyed as in the scenario, with `coupling`, `delay` (steps), `drop` (probability), `size`
    (components) and `carries` ("state" for those that carry an agent's state to itself). Both may have `about`: texts by
    heading, for display. Defaults are those of an ordinary agent, and of a locked channel without delay."""
    names: Names
    scenario: str = ""
    """Name of the scenario."""
    period: int = 1
    """Steps from one row of figures to the next."""
    until: int = 0
    """The step the run stops at."""
    batch: int = 0
    """Parallel environments; 0: unknown."""
    start_step: int = 0
    """Steps done before this session: 0 for a new run, the checkpoint's step for a resumed one."""
    max: int = 32
    """Agents, and channels, that get curves of their own in a graph with more than so many."""
    timeline: Timeline | None = None
    """Timeline of the first steps; None: not computed."""


class Recorder:
    """Base of recorders; subclasses override the calls that they use.

    Calls come in the order begin, (figures | histograms | samples | parts | sync)*, end?, close. A recorder may raise RunError
    where it cannot write; it uses no random numbers and changes no argument.
    """

    def begin(self, description: RunDescription) -> None:
        """Open the files. Called once, before any figure."""

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Write and flush the figures of one step. Steps ascend."""

    def histograms(self, step: int, rows: Sequence[HistogramRow]) -> None:
        """Write distributions of one step."""

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """Write some messages of one step."""

    def parts(self, step: int, rows: Sequence[PartFigures]) -> None:
        """Write the figures of the parts of a run that is computed in parts, in order; a step may have several."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Write the result of a finished run (the object of `--json`)."""

    def sync(self) -> None:
        """Write to the disk what has been recorded: a checkpoint follows, from which the run goes on behind it."""

    def close(self) -> None:
        """Close all files, also after an error; a second call does nothing."""


class Recorders(Recorder):
    """Several recorders as one, called in their order.

    Args:
        recorders: These.
        times: Returns the times of a step, which follow its first figures.
    """

    def __init__(
        self, recorders: Iterable[Recorder], times: Callable[[int], Sequence[Figure]] = lambda step: ()
    ) -> None:
        self._recorders, self._times = tuple(recorders), times
        self._step: int | None = None

    def begin(self, description: RunDescription) -> None:
        """Begin each recorder; where one cannot, close those that have begun."""
        with ExitStack() as begun:
            for recorder in self._recorders:
                begun.callback(recorder.close)
                recorder.begin(description)
            begun.pop_all()

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Pass the figures of one step to each recorder, the first of a step with its times."""
        if step != self._step:
            self._step = step
            rows = [*rows, *self._times(step)]
        for recorder in self._recorders:
            recorder.figures(step, rows)

    def histograms(self, step: int, rows: Sequence[HistogramRow]) -> None:
        """Pass the distributions of one step to each recorder."""
        for recorder in self._recorders:
            recorder.histograms(step, rows)

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """Pass the messages of one step to each recorder."""
        for recorder in self._recorders:
            recorder.samples(step, rows)

    def parts(self, step: int, rows: Sequence[PartFigures]) -> None:
        """Pass the figures of parts to each recorder."""
        for recorder in self._recorders:
            recorder.parts(step, rows)

    def end(self, result: Mapping[str, Any]) -> None:
        """Pass the result to each recorder."""
        for recorder in self._recorders:
            recorder.end(result)

    def sync(self) -> None:
        """Have each recorder write to the disk."""
        for recorder in self._recorders:
            recorder.sync()

    def close(self) -> None:
        """Close every recorder, even where closing one of them raises."""
        with ExitStack() as stack:
            for recorder in reversed(self._recorders):
                stack.callback(recorder.close)
