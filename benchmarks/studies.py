"""The studies behind the results' first table, and the library's: run one, or all, and keep what came of it and from where.

Run: `python benchmarks/studies.py dni-split --jobs 2` (needs ANTIPHON_DATA, or the data in the cache). Runs that are
finished already in --logdir are not repeated. Each study's table goes to benchmarks/results/NAME.md and NAME.csv, its
figure to NAME.svg (under another budget than small: NAME-BUDGET).
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

from antiphon.scenarios.study import study_names

FOUR = "--variant locked --variant decoupled --variant local --variant detached"
STUDIES = {
    "corporation-digits": "corporation --set agents=16 --set readouts=2 --set sg_lr=0.0001 --steps 1800",
    "corporation-4": f"corporation {FOUR} --set data=mnist --set context=all",
    "corporation-1": "corporation --set data=mnist --set readouts=1 --set hold=8 --set context=adjacent --steps 12000",
    "mnist-mlp-2000": "mnist-mlp --steps 2000",
    "mnist-mlp-5000": "mnist-mlp --steps 5000",
    "mnist-mlp-6": "mnist-mlp --set depth=6 --steps 5000",
    "pipelined": f"pipelined {FOUR}",
    "timescales-10": "dni-timescales --variant sobolev_label --seeds 10",
    "clockwork": "clockwork",
    "copy-3": "dni-table2 --variant locked --variant detached --variant decoupled",
    "mnist-mlp-blind-2000": "mnist-mlp --set 'context=[]' --set sg_lr=0.01 --steps 2000",
    "twenty-hops": "benchmarks/twenty-hops.yaml --seeds 1",
}
"""Studies of one scenario: what follows `antiphon study`."""
RESULTS = Path(__file__).parent / "results"
KEPT = {"table.csv": ".csv", "figure.svg": ".svg"}
KEPT |= {
    f"{what}.{kind}": f"-{what}.{kind}" for what in ("curves", "representations") for kind in ("csv", "svg")
}
"""What is copied, if it is there, and what is put behind the study's name for it."""


def run(name: str, logdir: Path, jobs: int, seeds: int | None, budget: str, device: str) -> None:
    """Run a study and keep its table and figure."""
    command = f"antiphon study {STUDIES.get(name, f'{name} --budget {budget}')}"
    if seeds is not None or (name in STUDIES and "--seeds" not in command):
        command += f" --seeds {seeds or 3}"
    if name not in STUDIES and budget != "small":
        name = f"{name}-{budget}"
    directory = logdir / name
    words = shlex.split(command)[1:]
    extra = ["--jobs", str(jobs), "--logdir", str(directory), "--device", device]
    subprocess.run([sys.executable, "-m", "antiphon", *words, *extra], check=True)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in directory.glob("*/run.json")]
    facts = max(runs, key=lambda facts: str(facts["started"]))
    place = machine()["processor"]
    if device != "cpu":
        place += f", {torch.cuda.get_device_name(device)}"
    lines = (directory / "table.md").read_text(encoding="utf-8").rstrip().splitlines()
    commit, version = facts["git"][:7], facts["versions"]["torch"]
    where = f"{facts['started'][:10]}, commit {commit}, {place}, one thread a run, torch {version}."
    lines += ["", f"`{command}`", "", where]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for file, ending in KEPT.items():
        if (directory / file).exists():
            shutil.copyfile(directory / file, RESULTS / f"{name}{ending}")


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*STUDIES, *study_names()]
    parser.add_argument("name", choices=[*names, "all"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, help="in place of the budget's, or of three")
    parser.add_argument("--budget", default="small", help="of a library study")
    parser.add_argument("--logdir", type=Path, default=Path("runs/studies"))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for name in names if arguments.name == "all" else [arguments.name]:
        run(name, arguments.logdir, arguments.jobs, arguments.seeds, arguments.budget, arguments.device)


if __name__ == "__main__":
    main()
