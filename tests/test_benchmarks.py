"""The benchmarks of speed start: competitors compute what the backend does, and each script has its numbers."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import antiphon
from antiphon import Simulation, envs
from antiphon.agents.models import GPT, ResNet
from benchmarks import (
    agents_scaling,
    building,
    credit,
    flag_teams,
    league,
    parts,
    reach,
    shuffled_credit,
    slow_line,
    slow_line_curves,
    speaking,
    split,
    switch_riddle,
)
from tests.kit.running import bytes_sent


@pytest.mark.long
def test_programs_by_hand_compute_what_the_backend_does() -> None:
    found = agents_scaling.check(5, "cohort", "cpu", [])
    assert found.keys() == {"plain_loop", "plain_loop_fused", "stacked", "stacked_autograd"}
    assert max(found.values()) < 1e-10


@pytest.mark.long
def test_one_part_and_two_compute_the_same(tmp_path: Path) -> None:
    learned = {}
    for name, each in parts.contestants("local", 6, 4, str(tmp_path)).items():
        assert isinstance(each, parts.Local)
        seconds, _ = each.turn(8)
        assert len(seconds) == len(each.parts) == {"one": 1, "two": 2}[name]
        learners = [part.state_dict()["system"]["learners"] for part in each.parts]
        learned[name] = {k: own["parameters"] for part in learners for k, own in part.items()}
        each.close()
    torch.testing.assert_close(learned["one"], learned["two"], rtol=0, atol=0)
    row = parts.measure("local", agents=6, delay=4, steps=4, rounds=2)
    assert row["cpu_ratio"] == pytest.approx(row["cpu_ms_one"] / row["cpu_ms_two"], rel=0.5)


@pytest.mark.nightly
def test_many_agents_are_built_saved_and_stepped() -> None:
    found = building.row(16, only_build=16)
    assert {*(f"s_{part}" for part in building.PARTS), "step_ratio", "python_kb"} <= found.keys()
    assert building.missed([found]) == []


@pytest.mark.nightly
def test_a_split_is_timed_and_keeps_less_for_backward() -> None:
    rows = {row["way"]: row for row in split.measure(4, 2, width=16, length=16, batch=8)}
    assert rows[split.PLAIN]["ratio"] == 1.0
    assert rows["decoupled, sweep"]["kept_mb"] < rows["locked"]["kept_mb"]


def test_a_shuffled_prediction_is_that_of_the_next_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "shuffled_credit.py digits-mlp --set depth=2 --set width=8 --set batch=16 --steps 30 --seeds 1 --json"
    )
    monkeypatch.setattr(sys, "argv", words.split())
    shuffled_credit.main()
    ordinary, shuffled = json.loads(capsys.readouterr().out)["rows"]
    assert shuffled["shuffled"]
    assert shuffled["n1.accuracy"] != ordinary["n1.accuracy"]


def test_the_processes_of_a_way_end_at_the_newest_step_that_one_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, time = import_module("clock"), 0.0  # of benchmarks/slow_line, which the script makes importable
    clock, warm = module.Clock(tmp_path / "clock", processes=2, seconds=10.0), module.WARM
    monkeypatch.setattr("time.monotonic", lambda: time)

    def goes_on(process: int, taken: int) -> bool:
        monkeypatch.setattr("os.getpid", lambda: process)
        return clock.step(taken)

    assert all(goes_on(process, taken) for taken in range(warm) for process in (7, 8))
    time = 50.0
    assert goes_on(7, warm)
    assert clock.began is None
    time = 60.0
    assert goes_on(8, warm)
    assert clock.began == 60.0
    assert goes_on(7, warm + 1)
    time = 71.0
    assert goes_on(8, warm + 1)  # the other one is in its next step
    assert not goes_on(7, warm + 2)
    assert not goes_on(8, warm + 2)
    assert (clock.steps, clock.seconds, clock.processes) == (warm + 2, 11.0, [7, 8])


@pytest.mark.nightly
def test_the_parts_of_the_slow_line_take_steps_and_note_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("antiphon_way")
    monkeypatch.setenv(import_module("timed_windows").CLOCK, str(tmp_path / "clock"))
    for way in module.WAYS:
        clock = import_module("clock").Clock(tmp_path / "clock", processes=1, seconds=1e6)
        with Simulation(module.scenario(way, 0, 1e-3), parts=2) as simulation:
            simulation.run(6, progress=False)
        assert clock.steps >= 6


def test_the_best_number_of_steps_between_two_meetings_is_that_of_the_way() -> None:
    record = {"ms": 50.0, "steps": 100, "bytes": [1, 2], "rss_mb": [3], "forwarder": 0.1, "lr": 1e-3}
    runs = {"averaging:16": [3.0, 3.2], "averaging:64": [2.9, 3.0], "plain": [None, 3.0]}
    records = {way: [{**record, "bits": bits} for bits in each] for way, each in runs.items()}
    found = slow_line.by_way(["plain", "averaging"], records)
    assert found["averaging"] == {**found["averaging:64"], "every": 64}
    assert found["averaging"]["interval"] == pytest.approx([2.95 - 0.6353, 2.95 + 0.6353])
    assert found["plain"]["bits"] is None


def test_what_is_learned_by_step_and_the_time_of_a_step_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At step 48, 8 and 20 s of 500 ms: between two steps that are judged, and with the rate that is best there, not later."""
    link, steps, curves = (
        {"delay": 3, "bits": 4},
        tmp_path / "steps",
        slow_line_curves.Curves(tmp_path / "curves"),
    )
    timed = {
        "line": "10:25",
        "way": "antiphon",
        "lr": 1e-3,
        "seconds": 20.0,
        "ms": 500.0,
        "bits": 4.5,
        "link": link,
    }
    steps.write_text("\n".join(json.dumps({**timed, **each}) for each in [{}, {"seconds": 9.0, "ms": 900.0}]))
    learned = {
        (1e-3, slow_line_curves.TUNED): (4.1, 4.1, 4.1),
        (5e-4, slow_line_curves.TUNED): (4.0, 4.0, 3.9),
        (2e-3, slow_line_curves.TUNED): (5.0, 4.5, 3.0),
        (2.5e-4, slow_line_curves.TUNED): (4.2, 4.2, 3.9),
        (5e-4, 0): (5.0, 4.0, 4.0),
        (5e-4, 1): (5.2, 4.2, 4.2),
        (1e-3, 0): (6.0, 5.0, 5.0),
    }
    for (rate, seed), bits in learned.items():
        run = "antiphon", 2, json.dumps(link), rate, seed
        curves.add(run, [*zip((40, 50, 100), bits, strict=True)], {})
    given = ["--steps", str(steps), "--curves", str(tmp_path / "curves"), "--seconds", "20", "--table"]

    def row(*more: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["slow_line_curves", *given, *more])
        slow_line_curves.main()
        return capsys.readouterr().out.splitlines()[1].split("  ")

    assert [cell.strip() for cell in row("--seeds", "2") if cell] == [
        *("10:25", "antiphon", "2", json.dumps(link), "0.0005", "500.0", "2", "4.300 ± 1.271", "-"),
    ]
    assert [cell.strip() for cell in row("--lr", "1e-3") if cell][-5:] == [
        "0.001",
        "500.0",
        "1",
        "5.200",
        "4.500",
    ]
    four = tmp_path / "four"
    four.write_text(json.dumps({**timed, "parts": 4}))
    curves.add(("antiphon", 4, json.dumps(link), 5e-4, 0), [(40, 3.0), (100, 3.0)], {})
    given = ["--steps", str(four), "--rates-of", str(steps), *given[2:]]
    assert [cell.strip() for cell in row() if cell][-6:] == [
        json.dumps(link),
        "0.0005",
        "500.0",
        "1",
        "3.000",
        "-",
    ]


def test_rates_beyond_the_grid_are_compared_while_the_best_is_at_its_end() -> None:
    tuning = import_module("tuning")  # of benchmarks/slow_line
    known = {1.0: 3.0, 2.0: 4.0}
    assert tuning.compared((1.0, 2.0), known.get) == [0.5, 1.0, 2.0]
    assert tuning.best_rate((1.0, 2.0), known.get) is None
    known[0.5] = 3.5
    assert tuning.compared((1.0, 2.0), known.get) == [0.5, 1.0, 2.0]
    assert tuning.best_rate((1.0, 2.0), known.get) == 1.0
    assert tuning.best_rate((8.0,), known.get) == 8.0


@pytest.mark.parametrize("model", [GPT(7, 5, blocks=3, width=8), ResNet(1, 7, channels=4, stages=(1, 2))])
def test_a_head_before_the_last_block_has_the_loss_of_the_model(model: GPT | ResNet) -> None:
    inputs, target = torch.randn(4, 1, 8, 8), torch.randint(7, (4,))
    if isinstance(model, GPT):
        inputs, target = torch.randint(7, (2, 4, 5))
    early, last, whole = import_module("heads").WithHeads(model, [1, 2]).losses(inputs, target)
    assert last == whole == cross_entropy(model(inputs).flatten(0, -2), target.flatten())
    assert early != whole


@pytest.mark.nightly
def test_what_a_cut_model_learns_stands_beside_the_plain_loop_with_its_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "credit --width 8 --batch 2 --ways backprop,heads:2,aug_local-1:2 --steps 1,2 --seeds 2 --jobs 1 --json"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--out", str(tmp_path / "records")])
    credit.main()
    first = capsys.readouterr()
    rows = json.loads(first.out.splitlines()[-1])["rows"]
    assert [row["way"] for row in rows] == ["backprop", "heads:2", "aug_local-1:2"]
    assert rows[0]["after_2"] != rows[0]["after_1"]
    assert {"minus_heads_1", "minus_heads_2"} <= rows[2].keys()
    assert "6/6" in first.err
    credit.main()
    again = capsys.readouterr()
    assert not again.err
    assert json.loads(again.out.splitlines()[-1])["rows"] == rows


@pytest.mark.nightly
def test_ways_without_a_line_learn_what_they_learn_over_one() -> None:
    """A pipeline what the plain loop learns, and antiphon in one process what its parts do."""

    def after(way: str, link: dict[str, int] | None = None) -> float:
        found = slow_line_curves.trained((way, 2, json.dumps(link), 1e-3, 0), 20)
        assert [step for step, _ in found] == [10, 20]
        return found[-1][1]

    assert after("1f1b") == pytest.approx(after("plain"), abs=1e-3)
    assert after("1f1b+muon") == pytest.approx(after("plain+muon"), abs=1e-2)
    assert after("plain+muon") != pytest.approx(after("plain"), abs=1e-2)
    link = {"delay": 2, "bits": 4}
    given = import_module("antiphon_way").scenario("antiphon", 0, 1e-3, link=link)
    with Simulation(given, seed=0, parts=2) as divided:
        divided.run(20, progress=False)
        parameters = dict(antiphon.join(divided).named_parameters())
    assert after("antiphon", link) == round(import_module("task").bits(parameters), 4)


ANSWERS = """
import socket, sys
server = socket.create_server((sys.argv[1], 5000))
print("listens", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(sys.argv[1].encode())
"""
ASKS = """
import socket, sys, time
for other in sys.argv[1:]:
    start = time.monotonic()
    with socket.create_connection((other, 5000), 20) as connection:
        print(connection.recv(99).decode(), time.monotonic() - start)
"""


def emulated(count: int, dilation: float = 1.0) -> Any:
    """Return a network of so many machines, which takes root."""
    module = import_module("network")
    try:
        return module.Network(count, 1500, dilation)
    except module.NetworkError as error:
        pytest.skip(str(error))


@pytest.mark.long
def test_machines_of_an_emulated_network_reach_one_another_after_the_delay() -> None:
    module = import_module("network")
    with ExitStack() as resources:
        network = resources.enter_context(emulated(3))
        network.lines.set(module.Setting.parsed("10:40"))
        addresses = [end.address for end in network.ends]
        for end in network.ends:
            command = [sys.executable, "-c", ANSWERS, end.address]
            process = resources.enter_context(end.start(command, stdout=PIPE))
            resources.callback(process.kill)
            assert process.stdout.readline() == "listens\n"
        for end in network.ends:
            others = [address for address in addresses if address != end.address]
            asks = end.start([sys.executable, "-c", ASKS, *others], stdout=PIPE)
            rows = [row.split() for row in asks.communicate(timeout=60)[0].splitlines()]
            assert [address for address, _ in rows] == others
            assert all(float(seconds) > 4 * 0.04 for _, seconds in rows)  # there and back, twice
        assert len(network.lines.bytes) == 3
        assert min(network.lines.bytes) > 0


@pytest.mark.long
def test_a_machine_that_is_slowed_computes_for_its_share_of_the_time() -> None:
    program = """
import time
start, began = time.monotonic(), time.process_time()
while time.process_time() < began + 0.2:
    pass
print(time.monotonic() - start)
"""
    with emulated(2, dilation=10.0) as network:
        network.slow()
        own = network.ends[1].start([sys.executable, "-c", program], stdout=PIPE)
        assert float(own.communicate(timeout=60)[0]) > 9 * 0.2  # the first period may be begun


@pytest.mark.long
def test_parts_know_whether_their_line_loses_packets() -> None:
    module = import_module("network")
    with ExitStack() as resources:
        network = resources.enter_context(emulated(2))
        ends, hosts = [], [end.address for end in network.ends]
        for index, end in enumerate(network.ends):
            command = [sys.executable, "-m", "tests.kit.echoes", str(index), *hosts]
            ends.append(resources.enter_context(end.start(command, stdin=PIPE, stdout=PIPE, bufsize=1)))
            resources.callback(ends[-1].kill)
        ports = [end.stdout.readline() for end in ends]
        for end, port in zip(ends, reversed(ports), strict=True):
            end.stdin.write(port)
        for line in ("100:5", "100:5:0.02"):
            network.lines.set(module.Setting.parsed(line))
            ends[0].stdin.write("send\n")
            count, resent = map(int, ends[0].stdout.readline().split())
            assert count == 3
            assert bool(resent) == line.endswith("0.02")


@pytest.mark.parametrize("count", [2, 4])
def test_the_stages_of_a_pipeline_are_the_model(count: int) -> None:
    model = import_module("task").new_model(0)
    tokens = torch.arange(32).reshape(2, 16)
    x = tokens
    for index in range(count):
        x = import_module("torch_way").Stage(model, index, count)(x)
    torch.testing.assert_close(x, model(tokens), rtol=0, atol=0)


def test_what_is_streamed_meets_after_the_exchange_under_way() -> None:
    assert slow_line.ways_of("streaming:6") == ("streaming:6",)
    assert slow_line.ways_of("diloco:1") == ("diloco:1",)
    for way, least in {"streaming:5": 6, "averaging:0": 1}.items():
        with pytest.raises(ValueError, match=f"{way}: H must be at least {least}"):
            slow_line.ways_of(way)


def test_ways_of_torch_and_antiphon_itself_also_take_muon() -> None:
    assert slow_line.ways_of("streaming:64+muon") == ("streaming:64+muon",)
    assert slow_line.ways_of("diloco+muon") == tuple(f"diloco:{every}+muon" for every in (16, 64, 256))
    assert slow_line.ways_of("antiphon+muon") == ("antiphon+muon",)
    with pytest.raises(ValueError, match=r"no way 'antiphon-nadam\+muon'"):
        slow_line.ways_of("antiphon-nadam+muon")


def test_four_bits_are_a_sign_and_a_power_of_two_of_the_largest() -> None:
    module = import_module("torch_way")
    values = torch.tensor([[4.0, -2.0, 1.2], [0.0, -1 / 16, 1e-3], [-3.0, 0.1, 0.1]])
    sent = module.in_four_bits(values)
    assert (sent.dtype, len(sent)) == (torch.uint8, 4 + 5)
    expected = torch.tensor([[4.0, -2.0, 1.0], [0.0, -1 / 16, 0.0], [-4.0, 0.125, 0.125]])
    assert torch.equal(module.of_four_bits(sent, values), expected)
    assert not module.of_four_bits(module.in_four_bits(torch.zeros(3)), torch.zeros(3)).any()


@pytest.mark.cases(1)
@pytest.mark.parametrize(("sizes", "bits"), [((2, 16, 8, 4), None), ((3, 20, 5, 3), 4)])
def test_formulas_count_the_bytes_that_cross(sizes: tuple[int, ...], bits: int | None) -> None:
    """Activations of a GPT in two parts, its parameters as they are and in four bits."""
    costs, task, ways = map(import_module, ("costs", "task", "torch_way"))
    shape = costs.Shape(*sizes)
    model = task.new_model(0, shape)
    shape = replace(shape, classes=model.head.out_features)
    assert shape.parameters == sum(value.numel() for value in model.parameters())
    assert replace(shape, tied=True).parameters == shape.parameters - model.head.weight.numel()
    four = sum(len(ways.in_four_bits(value)) for value in model.parameters())
    streaming = costs.StreamingDiLoCo(every=1).sent(costs.Setup(shape, None, 1.0))
    assert (
        four - 5 * len([*model.parameters()]) <= streaming <= four
    )  # largest values, and odd halves of bytes
    scenario = antiphon.split(
        model,
        at=[f"blocks.{shape.blocks // 2}"],
        env={"id": "antiphon/TextWindows-v0", "text": task.text_name(), "length": shape.length},
        objective={"kind": "coding", "target": "following"},
        batch=shape.batch,
        delay=1,
        bits=bits,
    )
    with Simulation(scenario, parts=2) as simulation:
        sent = []
        for _ in range(2):
            simulation.run(3, progress=False)  # the last step is taken by the whole
            sent.append(bytes_sent(simulation))
    assert sent[1] - sent[0] == 2 * costs.message(shape, bits or costs.FLOATS)


def test_formulas_agree_with_runs_over_an_emulated_line() -> None:
    path = Path(reach.__file__).with_name("results") / "reach-measured.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert {row["way"] for row in rows} == set(reach.MEASURED)
    assert len({tuple(row["shape"].values()) for row in rows}) == 3
    for row in rows:
        found, ours = reach.ratios(row), row["way"] == "antiphon"
        assert (0.95 if ours else 0.88) < found["bytes_ratio"] < (1.05 if ours else 1.15), (row, found)
        assert (0.9 if ours else 0.7) < found["ms_ratio"] < (1.05 if ours else 1.15), (row, found)


@pytest.mark.nightly
def test_populations_of_a_league_play_a_tournament(tmp_path: Path) -> None:
    small = {"members": 2, "steps": 6}
    found = [league.train(name, 0, tmp_path, values={"width": 4}, **small) for name in ("evolved", "score")]
    assert [set(each.lineage[0]["values"]) >= set(league.EVENTS) for each in found] == [True, False]
    teams = [[league.policy(each["run_dir"]) for each in one.result["members"]] for one in found]
    score, first, second = league.games(teams[0], teams[1][:1], 4)
    assert score.shape == first.shape == second.shape == (2, 1)
    (team,) = flag_teams.teams("detached", 1, 25)
    assert league.games([team], teams[0][:1], 4)[0].shape == (1, 1)
    row = league.tournament(found[:1], found[1:])
    assert {"best", "all", "captures"} <= row.keys()


@pytest.mark.long
def test_the_riddle_is_learned_and_its_oracle_knows_who_has_been_in_the_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = envs.make({"id": "antiphon/SwitchRiddle-v0", "prisoners": 4, "limit": 10}, batch=4096)
    facts = env.reset(seed=0)[1]
    for _ in range(9):
        facts = env.step({f"prisoner_{number}": torch.zeros(4096).long() for number in range(4)})[4]
    assert float(facts["been"].all(1).float().mean()) == pytest.approx(switch_riddle.oracle(4), abs=0.02)
    words = "switch_riddle.py --seeds 1 --updates 1 --every 1 decoupled"
    monkeypatch.setattr(sys, "argv", words.split())
    switch_riddle.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["decoupled, 1 updates"]


def test_listeners_of_the_benchmark_move_as_those_of_the_library() -> None:
    settings = {"device": "cpu", "dtype": torch.float64}
    theirs: Any = envs.make({"id": "antiphon/SpeakerListener-v0", "message": "channel"}, batch=4, **settings)
    both = speaking.Reference(4, speaking.Reference.Options(), **settings)
    one = speaking.Reference(4, speaking.Reference.Options(listeners=1, squared=True), **settings)
    start, distances = both.start(torch.rand(4, both.randoms, dtype=torch.float64)), []
    for name in "ab":
        keys = ("position", "velocity", "goal")
        state = {key: start[f"{key}.{name}"] for key in keys} | {"landmarks": start["landmarks"].flatten(1)}
        alone = {"landmarks": start["landmarks"]} | {
            f"{key}.b": state[key] for key in (*keys, "noise") if key in state
        }
        for action in torch.tensor([[1, 2, 3, 4], [2, 0, 4, 3]]):
            state, reward, _ = theirs.transition(state, {"action": action})
            alone, own, _ = one.transition(alone, {"b": action})
            torch.testing.assert_close(own, reward)
            torch.testing.assert_close(alone["position.b"], state["position"])
        distances.append((-reward).sqrt())
    for action in torch.tensor([[1, 2, 3, 4], [2, 0, 4, 3]]):
        start, shared, _ = both.transition(start, {"a": action, "b": action})
    torch.testing.assert_close(shared, -(distances[0] + distances[1]) / 2)


@pytest.mark.parametrize("task", speaking.CASES)
def test_cases_of_speakers_are_scenarios(task: str) -> None:
    antiphon.environment("benchmark/Reference-v0")(speaking.Reference)
    for case in speaking.CASES[task]:
        Simulation(speaking.scenario_of(task, case, 1)).close()
