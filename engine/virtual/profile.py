"""Cluster profiles: machines, their speed and failures, and the links between them, as a document.

A document begins with `cluster: NAME`. All times are in seconds, sizes in bytes; nothing here is measured or simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from antiphon.errors import ScenarioError, suggest
from antiphon.scenarios.problems import DocumentError, show_value
from antiphon.scenarios.spec import Count, Flag, IsReal, Name, Sequence, Spec, Text
from antiphon.scenarios.yaml_text import read, read_file

__all__ = [
    "SECONDS_A_DAY",
    "ClusterProfile",
    "ComputeSpec",
    "FailureSpec",
    "LinkSpec",
    "Machine",
    "MachineSpec",
    "StragglerSpec",
    "VirtualSettings",
    "find_profile",
    "profile_names",
]

SECONDS_A_DAY = 86400.0
_MOST = 100_000
"""Machines of a group and of a cluster, at most."""
_SUFFIXES = (".yaml", ".yml")
_LIBRARY = Path(__file__).with_name("profiles")

Seconds = Annotated[float, Field(ge=0), IsReal]
Positive = Annotated[float, Field(gt=0), IsReal]
Probability = Annotated[float, Field(ge=0, lt=1), IsReal]
Spread = Annotated[float, Field(ge=0, le=3), IsReal]
"""Standard deviation of the logarithm of a factor with mean 1 (log-normal)."""


def _of_two(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) != 2:
        raise DocumentError((), f"must be two groups of machines, such as [a, b], not {show_value(names)}")
    return names


Pair = Annotated[tuple[Name, ...], Sequence, AfterValidator(_of_two)]


class StragglerSpec(Spec):
    """Steps that take much longer than others, by chance.

    Attributes:
        share: The probability that a step is one of them.
        factor: Times that such a step takes.
    """

    share: Probability
    factor: Annotated[float, Field(ge=1), IsReal]


class ComputeSpec(Spec):
    """Time of a machine's step: `step + flop x FLOP`, times a factor with mean 1, times that of stragglers.

    Attributes:
        step: Seconds that every step takes, whatever is computed.
        flop: Seconds per floating-point operation.
        measure: Whether the step of each part is timed on this machine instead of given here.
        spread: Standard deviation of the logarithm of the step time.
        stragglers: Steps that take much longer; None: there are none.
    """

    step: Seconds = 0.0
    flop: Seconds = 0.0
    measure: Flag = False
    spread: Spread = 0.0
    stragglers: StragglerSpec | None = None

    @model_validator(mode="after")
    def _time_is_given_once(self) -> Self:
        given = self.step > 0 or self.flop > 0
        if self.measure and given:
            raise DocumentError(("measure",), "step times are measured or given; leave step and flop out")
        if not self.measure and not given:
            raise DocumentError((), "a step takes no time; give step, flop, or measure: true")
        return self

    def seconds(self, flop: float, measured: float | None = None) -> float:
        """Return the time of a step without chance: of so many FLOP, or what was measured where that is wanted."""
        if not self.measure:
            return self.step + self.flop * flop
        if measured is None:
            raise ScenarioError("compute.measure: the step has to be timed on this machine first")
        return measured

    @property
    def mean_factor(self) -> float:
        """The mean of the factor by which chance stretches a step."""
        return 1.0 if self.stragglers is None else 1 + self.stragglers.share * (self.stragglers.factor - 1)


class FailureSpec(Spec):
    """Failures of machines, each independent of the others: a Poisson process.

    Attributes:
        per_day: Failures of a machine per day, the mean.
        outage: Seconds until a machine is back.
        checkpoint: Steps between checkpoints of a part: a part that restarts has lost the steps since the newest.
    """

    per_day: Positive
    outage: Seconds = 60.0
    checkpoint: Count = 100


class MachineSpec(Spec):
    """A group of equal machines.

    Attributes:
        count: Machines of the group.
        compute: In place of the cluster's.
        failures: In place of the cluster's.
    """

    count: Annotated[Count, Field(le=_MOST)] = 1
    compute: ComputeSpec | None = None
    failures: FailureSpec | None = None


class LinkSpec(Spec):
    """The network between any two machines of two groups, or of one; both ways are alike and do not share bandwidth.

    Attributes:
        between: The two groups; the same name twice for machines of one group.
        latency: Seconds that a call takes whatever its size, one way.
        bandwidth: Bytes per second; None: size costs nothing.
        jitter: Standard deviation of the logarithm of the latency.
        loss: The probability that a call is lost.
    """

    between: Pair
    latency: Seconds = 0.0
    bandwidth: Positive | None = None
    jitter: Spread = 0.0
    loss: Probability = 0.0

    def transfer(self, nbytes: float) -> float:
        """Return the seconds for which a call of so many bytes occupies the link."""
        return 0.0 if self.bandwidth is None else nbytes / self.bandwidth

    def seconds(self, nbytes: float) -> float:
        """Return the mean time of a call of so many bytes on an idle link, one way."""
        return self.latency + self.transfer(nbytes)


LOCAL = LinkSpec(between=("local", "local"))
"""From a machine to itself."""


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster."""

    number: int
    name: str
    """`group-0`, `group-1`, …"""
    group: str
    compute: ComputeSpec
    failures: FailureSpec | None


class ClusterProfile(Spec):
    """A cluster: groups of machines and the links between them.

    Attributes:
        cluster: Its name.
        about: What it stands for, and where its numbers are from.
        machines: Groups of equal machines by name.
        links: Between groups; every pair of groups has one, and every group of several machines has one with itself.
        compute: Of the groups that have none of their own.
        failures: Of the groups that have none of their own; None: machines do not fail.
    """

    cluster: Name
    about: Text = ""
    machines: Annotated[dict[Name, MachineSpec], Field(min_length=1)]
    links: Annotated[tuple[LinkSpec, ...], Sequence] = ()
    compute: ComputeSpec | None = None
    failures: FailureSpec | None = None

    written: ClassVar[frozenset[str]] = frozenset({"cluster", "machines"})

    @classmethod
    def from_yaml(cls, text: str, source: str = "cluster") -> Self:
        """Read a document.

        Raises:
            ScenarioError: Something that is not accepted; the line begins `source:line: `.
        """
        document = read(text, source, "cluster")
        try:
            return cls.model_validate(dict(document.data))
        except DocumentError as error:
            raise error.located(source, document.lines) from None

    @model_validator(mode="after")
    def _machines_have_a_speed(self) -> Self:
        for name, group in self.machines.items():
            if group.compute is None and self.compute is None:
                raise DocumentError(
                    ("machines", name), "has no compute; add compute: {step: SECONDS}, here or for all"
                )
        return self

    @model_validator(mode="after")
    def _links_are_there(self) -> Self:
        links: dict[frozenset[str], int] = {}
        for index, link in enumerate(self.links):
            for name in link.between:
                if name not in self.machines:
                    raise DocumentError(
                        ("links", index, "between"),
                        f"no group of machines {name!r}{suggest(name, self.machines)}",
                    )
            pair = frozenset(link.between)
            if pair in links:
                first, second = link.between
                raise DocumentError(
                    ("links", index), f"a second link between {first} and {second}; leave one out"
                )
            links[pair] = index
        if self.size > _MOST:
            raise DocumentError(("machines",), f"{self.size:,} machines; a cluster has at most {_MOST:,}")
        for first, second in combinations_with_replacement(self.machines, 2):
            needed = first != second or self.machines[first].count > 1
            if needed and frozenset((first, second)) not in links:
                raise DocumentError(
                    ("links",),
                    f"none between {first} and {second}; add {{between: [{first}, {second}], latency: SECONDS}}",
                )
        return self

    @property
    def size(self) -> int:
        """Number of machines."""
        return sum(group.count for group in self.machines.values())

    def machine(self, number: int) -> Machine:
        """Return a machine by its number, from 0: numbered in turn from each group that has one left, so that a run on a
        few machines has some of every group.

        Raises:
            ScenarioError: There is no such machine.
        """
        if not 0 <= number < self.size:
            raise ScenarioError(
                f"{self.cluster}: no machine {number}; it has {self.size}, numbered from 0 to {self.size - 1}"
            )
        name, index = self._numbering[number]
        group = self.machines[name]
        compute = group.compute or self.compute
        assert compute is not None  # the validator has seen to it
        return Machine(number, f"{name}-{index}", name, compute, group.failures or self.failures)

    @cached_property
    def _numbering(self) -> list[tuple[str, int]]:
        """The group of every machine and its place in it, by number."""
        rows = [
            (index, order, name)
            for order, (name, group) in enumerate(self.machines.items())
            for index in range(group.count)
        ]
        return [(name, index) for index, _, name in sorted(rows)]

    def link(self, sender: int, receiver: int) -> LinkSpec:
        """Return the link from one machine to another, by their numbers.

        Raises:
            ScenarioError: There is no such machine.
        """
        if sender == receiver:
            return LOCAL
        return self._links[frozenset((self.machine(sender).group, self.machine(receiver).group))]

    @cached_property
    def _links(self) -> dict[frozenset[str], LinkSpec]:
        return {frozenset(link.between): link for link in self.links}


@dataclass(frozen=True)
class VirtualSettings:
    """Where a run takes place in virtual time, as it is asked for: a cluster, and who is where on it."""

    profile: ClusterProfile
    placement: Mapping[str, int] | int | None = None
    """The part of each agent, or the number of parts; None: as of `VirtualSimulation`."""


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that antiphon brings along, sorted."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.yaml")))


def find_profile(name_or_path: str | Path) -> ClusterProfile:
    """Return a profile that antiphon brings along, or read one from a file.

    Args:
        name_or_path: A name of `profile_names`, or the path of a YAML file.

    Raises:
        ScenarioError: There is no such name or file, or it is not accepted.
    """
    path = Path(name_or_path)
    if str(name_or_path) in profile_names():
        path = _LIBRARY / f"{name_or_path}.yaml"
    elif path.suffix not in _SUFFIXES:
        raise ScenarioError(
            f"--cluster: no profile {str(name_or_path)!r}{suggest(str(name_or_path), profile_names())}; or give a .yaml file"
        )
    try:
        text = read_file(path)
    except ScenarioError as error:
        raise ScenarioError(f"--cluster: {error}") from None
    return ClusterProfile.from_yaml(text, path.name if path.parent == _LIBRARY else str(path))
