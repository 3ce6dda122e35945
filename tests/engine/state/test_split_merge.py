"""Merging and splitting state are each other's inverse: a state loaded into stacks is written back, every field of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.engine.state.state_dict import snapshot
from tests.contracts.builders import LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.twins import agree, made, side_by_side
from tests.engine.numbers import kept
from tests.engine.scenes import BATCH, BATCH_NORM, ENDS, LSTM, QUARANTINE, gradient
from tests.engine.stacks import both, channel_stacks, engine_of, single_agents, stacks

State = dict[str, Any]
UNROLLED: Document = {"clock": {"unroll": 4}}
INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
LOCKED: Document = {"coupling": "locked", "link": {"delay": 1}}


def mixed() -> Document:
    """Groups of stacks and of agents that stand alone, with forks and windows of several ticks."""
    agents: Document = {f"a{i}": {**OWN, **BATCH_NORM, **UNROLLED} for i in range(3)}
    agents |= {"c": {**OWN, **UNROLLED, "observes": ["y"], "objective": LABEL}}
    agents |= {"z": {**OWN, "clock": {"period": 2, "phase": 1, "unroll": 2}, "objective": LABEL}}
    agents |= {f"n{i}": {**OWN, **UNROLLED, "objective": LABEL} for i in range(2)}
    told = [{"from": "a0", "to": "c", **LOCKED}, {"from": "a1", "to": "z", **LOCKED}]
    told += [{"from": "a2", "to": "c", **LOCKED}]
    told += [
        {"from": "a0", "to": f"n{i}", "size": None, **gradient(), "link": {"delay": 2}} for i in range(2)
    ]
    told += [
        {"from": f"n{i}", "to": f"n{1 - i}", "size": 4, "link": {"delay": 1}, **gradient()} for i in range(2)
    ]
    return document(agents, told, ENDS)


def broadcast() -> Document:
    """A lone agent sends to a stack, one of whose members sends to it; another waits for delayed gradients."""
    agents: Document = {"s": {**OWN, **UNROLLED}, "w": {**OWN, "clock": {"unroll": 2}, "observes": ["y"]}}
    agents |= {
        f"n{i}": {**OWN, "clock": {"unroll": 2}, "observes": ["y"], "objective": LABEL} for i in range(3)
    }
    told = [{"from": "s", "to": f"n{i}", "size": 4, "port": "p", **gradient()} for i in range(3)]
    told += [{"from": "n1", "to": "s", "size": 4, "link": {"delay": 2}, **gradient()}]
    told += [
        {"from": "w", "to": f"n{i}", "size": 4, "port": "p", "coupling": "delayed", "link": {"delay": 1}}
        for i in range(3)
    ]
    return document(agents, told, ENDS)


def recurrent(**state: Any) -> Document:
    return ring(
        3, agent=LSTM, channel=gradient(context=["from.state", "returned"]), env=ENDS, state=gradient(**state)
    )


LOSSY: Document = {"link": {"delay": 1, "drop": 0.5, "noise": 0.1}, **gradient(context=["returned"])}
SCENES: dict[str, Document] = {
    "ring": ring(agent={**UNROLLED, **BATCH_NORM}, channel=gradient(kind="mlp", hidden=[4], norm="batch")),
    "drops and draws": ring(agent={**UNROLLED, "p_update": 0.5}, channel=LOSSY),
    "inputs": ring(agent=UNROLLED, channel={**LOSSY, "input": INPUT}, env=ENDS),
    "unlocked": levels(channel={"coupling": "unlocked", "input": INPUT}, wide=True, high=UNROLLED),
    "locked": levels(channel={**LOCKED, "port": "p"}, low=UNROLLED, high=UNROLLED, wide=True, env=ENDS),
    "late gradients": ring(channel={"link": {"delay": 1, "back": 4}}, agent=UNROLLED),
    "reads": levels(channel={"read": "concat"}, high={"clock": {"period": 3}}, wide=True, env=ENDS),
    "ages": ring(agent={**UNROLLED, "observes": ["x", "age"]}, channel={"link": {"delay": 2, "drop": 0.3}}),
    "aligned": levels(high={"align": True, **UNROLLED}, channel={"link": {"delay": 2}}),
    "critics": levels(channel=gradient(kind="sobolev", hidden=[4], norm="layer"), high=UNROLLED),
    "states": recurrent(),
    "returns of states": recurrent(trace=0.5, span=3),
    "quarantine": ring(agent=UNROLLED, channel=LOSSY, **QUARANTINE),
    "episodes": ring(agent=UNROLLED, env=Play(lengths=(6, 5))),
    "mixed": mixed(),
    "read of a lone agent": broadcast(),
}


# --- states as they are compared -------------------------------------------------------------------------


class Told:
    """A state by the names of its fields: masks as tensors, signals by their values.

    A use that counts nowhere is none.
    """

    def __init__(self, state: State) -> None:
        self.moments = [[step, kept(signals)] for step, signals in state["moments"]]
        self.found: State = kept({k: v for k, v in state.items() if k not in ("ledgers", "units", "moments")})
        for name, ledger in state["ledgers"].items():
            self._ledger(name, ledger)
        for i, unit in enumerate(state["units"]):
            for which in ("tape", "pending", "past"):
                tapes = [unit["tape"]] if which == "tape" else unit[which]
                for k, tape in enumerate(tapes):
                    self._tape(f"unit {i} {which} {k}", tape)

    def _ledger(self, name: str, ledger: State) -> None:
        for record in (*ledger["records"], *ledger["loose"]):
            for key, value in record.items():
                place = f"{name} @{record['stamp']} {key}"
                if key in ("dead", "silent", "counted"):
                    value = environments(value)
                elif key == "moment":
                    value = self.moments[value]
                self.found |= kept({place: value})
        for window, stamp, tick, leaf, counted in (
            use for use in ledger["uses"] if environments(use[4]).any()
        ):
            self.found |= kept({f"{name} use {window} {stamp} {tick}": [leaf, environments(counted)]})
        for key, value in ledger.items():
            if key not in ("records", "loose", "uses"):
                self.found |= kept({f"{name} {key}": value})

    def _tape(self, place: str, tape: State) -> None:
        self.found |= kept({f"{place} window": tape["window"], f"{place} start": tape["start"]})
        self.found |= kept({f"{place} sent": sorted(map(list, tape["sent"]))})
        self.found |= kept({f"{place} given up": tape["given_up"]})
        for step, parts in tape["ticks"]:
            for agent, moment, inputs, drawn, memory, ages in parts:
                own = f"{place} {agent} @{step}"
                self.found |= kept({f"{own} moment": self.moments[moment], f"{own} ages": ages})
                self.found[f"{own} drawn"] = drawn
                for k, entry in enumerate([*inputs, *([] if memory is None else [memory])]):
                    self.found |= kept({f"{own} {k}": [*entry[:3], environments(entry[4])]})
                    if entry[3] is not None and environments(entry[3][1]).any():
                        self.found |= kept({f"{own} {k} use": [entry[3][0], environments(entry[3][1])]})


def environments(value: bool | Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full((BATCH,), value)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the bit; nothing is the same as zeros."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        left = one if isinstance(one, Tensor) else other
        return (one is None or other is None) and not bool(left.any())
    return bool(one == other)


def assert_same(one: State, other: State) -> None:
    """Compare a state that was written back with the one that was loaded."""
    ours, theirs = Told(one).found, Told(other).found
    missing = [place for place in ours if place not in theirs] + [p for p in theirs if p not in ours]
    assert not missing, missing[:12]
    unequal = [place for place, value in ours.items() if not same(value, theirs[place])]
    assert not unequal, [(place, ours[place], theirs[place]) for place in unequal[:6]]


def written_back(simulation: Simulation) -> State:
    """The state of the single agents after it has been written from the stacks alone."""
    engine = engine_of(simulation)
    for agent in stacks(engine.stacked):  # nothing of what was there may be taken for what is written
        for member in agent.members:
            member.learner.buffers = {k: torch.zeros_like(v) for k, v in member.learner.buffers.items()}
            member.agent_disabled = not member.agent_disabled
    for channels in channel_stacks(engine.stacked):
        for channel in channels.members:
            channel.predictors_disabled, channel.input_models_disabled = None, None
            if len(channels.members) > 1:
                channel.ledger.records, channel.ledger.uses, channel.ledger.completed = {}, {}, {}
    engine.stale = True
    return snapshot(engine.per_agent())


# --- states as they are, and as they never were ----------------------------------------------------------


@pytest.mark.parametrize("early", [3, 10])
@pytest.mark.parametrize("name", SCENES)
def test_a_state_of_single_agents_is_written_back(name: str, early: int) -> None:
    single, cohort = both(SCENES[name])
    single.run(early)
    state = checkpoint.copy_tree(single._state_dict())
    cohort._load_state_dict(state)
    assert channel_stacks(engine_of(cohort).stacked)
    assert_same(state["system"], written_back(cohort))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SCENES)
def test_any_numbers_are_written_back(name: str, seed: int) -> None:
    single, cohort = both(SCENES[name])
    single.run(9 + seed)
    state = checkpoint.copy_tree(single._state_dict())
    scramble(state["system"], random.Random(seed))
    given_up(state["system"], {c.name for c in single._system.channels.values() if c.coupling == "delayed"})
    quarantined(state["system"], random.Random(seed))
    cohort._load_state_dict(state)
    assert_same(state["system"], written_back(cohort))


def given_up(state: State, delayed: set[str]) -> None:
    """Give up the gradients of all delayed channels in all tapes."""
    for unit in state["units"]:
        for tape in (unit["tape"], *unit["pending"], *unit["past"]):
            tape["given_up"] = sorted({name for name, _ in tape["sent"]} & delayed)


def quarantined(state: State, chance: random.Random) -> None:
    """Disable about half of all agents, synthetic gradients and synthetic inputs."""
    for key, owners in (
        ("silenced", state["learners"]),
        ("muted", state["predictors"]),
        ("deaf", state["inputs"]),
    ):
        state["quarantine"][key] = [name for name in owners if chance.random() < 0.5]


def scramble(state: State, chance: random.Random) -> None:
    """Put other numbers and masks of the same kinds in the place of all there are."""

    def other(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        generator = torch.Generator().manual_seed(chance.randrange(2**40))
        if value.is_floating_point():
            return torch.randn(value.shape, generator=generator, dtype=value.dtype).abs()
        return torch.randint(0, 2, value.shape, generator=generator).to(value.dtype)

    def mask(value: bool | Tensor) -> bool | Tensor:
        """All, some, or none; what counted goes on to do so."""
        found = torch.tensor([chance.random() < 0.5 for _ in range(BATCH)])
        found[chance.randrange(BATCH)] = True
        return chance.choice([value, True, found])

    def everything(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: everything(value) for key, value in tree.items()}
        return [everything(value) for value in tree] if isinstance(tree, list) else other(tree)

    for key in ("learners", "predictors", "inputs", "trails"):
        state[key] = everything(state[key])
    for ledger in state["ledgers"].values():
        for record in (*ledger["records"], *ledger["loose"]):
            for key, value in record.items():
                if key in ("dead", "silent"):
                    record[key] = mask(value)
                elif key == "counted":
                    record[key] = mask(value) if value is not False else False
                elif key not in ("moment", "waiting"):
                    record[key] = everything(value)
        for use in ledger["uses"]:
            use[3], use[4] = other(use[3]), mask(use[4])
        for key in ("newest", "held", "held_stamp", "prior", "prior_stamp"):
            ledger[key] = other(ledger[key])
    for tape in (t for unit in state["units"] for t in (unit["tape"], *unit["past"])):
        tape["start"] = everything(tape["start"])
        for _, parts in tape["ticks"]:
            for part in parts:
                for entry in _entries(part):
                    entry[2], entry[4] = other(entry[2]), mask(entry[4])
                part[5] = other(part[5])
    _settle(state)


def _entries(part: list[Any]) -> Iterator[list[Any]]:
    yield from part[2]
    if part[4] is not None:
        yield part[4]


def _settle(state: State) -> None:
    """What a use says in a tape is what it says in the ledger."""
    for unit in state["units"]:
        for tape in (unit["tape"], *unit["past"]):
            for step, parts in tape["ticks"]:
                for entry in (entry for part in parts for entry in _entries(part) if entry[3] is not None):
                    for window, stamp, tick, leaf, counted in state["ledgers"][entry[0]]["uses"]:
                        if window == tape["window"] and stamp == entry[3][0] and tick in (step, -1):
                            entry[2], entry[3] = leaf, [stamp, counted]


# --- going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("early", "batch"), [(5, 2), (10, 1)])
@pytest.mark.parametrize("name", ["drops and draws", "inputs", "locked", "mixed", "read of a lone agent"])
def test_runs_handed_over_in_mid_window_go_on_as_if_they_were_not(name: str, early: int, batch: int) -> None:
    """With so few environments a message is often lost, or a member undrawn, everywhere."""
    scene = {**SCENES[name], "training": {**SCENES[name]["training"], "batch": batch}}
    unbroken = single_agents(scene)
    unbroken.run(early)
    runs = []
    for first, second in ((False, True), (True, False), (True, True)):
        run = made(scene, "cohort", stacked=first)
        run.run(early)
        runs.append(made(scene, "cohort", stacked=second))
        runs[-1]._load_state_dict(checkpoint.copy_tree(run._state_dict()))
    for simulation in (unbroken, *runs):
        simulation.run(5)
    for run in runs:
        agree(unbroken, run)


def test_a_state_loaded_before_all_have_ticked() -> None:
    """c has ticked in the group's window; a0, a1 and z, which only a stack joins to it, have not."""
    clock = {"clock": {"period": 2, "phase": 1, "unroll": 2}}
    agents: Document = {name: {**OWN, **BATCH_NORM, **clock} for name in ("a0", "a1")}
    agents["c"] = {**OWN, **UNROLLED, "observes": ["y"], "objective": LABEL}
    agents["z"] = {**OWN, **clock, "objective": LABEL}
    scene = document(agents, [{"from": a, "to": b, **LOCKED} for a, b in (("a0", "c"), ("a1", "z"))])
    single, cohort = both(scene)
    single.run(1)
    cohort._load_state_dict(single._state_dict())
    assert stacks(engine_of(cohort).stacked)
    single.step()
    cohort.step()
    side_by_side(single, cohort.fork(), 8)
