"""The studies behind the README's table: run one, or all, and keep its table with where it came from.

Run: `python benchmarks/studies.py mnist-mlp-2000 --jobs 2` (needs ANTIPHON_DATA, or MNIST in the cache). Runs that are
finished already in --logdir are not repeated. Each study's table goes to benchmarks/results/NAME.md and NAME.csv.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

FOUR = "--variant locked --variant decoupled --variant local --variant detached"
STUDIES = {
    "corporation-digits": "corporation --set agents=16 --set readouts=2 --set sg_lr=0.0001 --steps 1800",
    "corporation-4": f"corporation {FOUR} --set data=mnist --set context=all",
    "corporation-1": "corporation --set data=mnist --set readouts=1 --set hold=8 --set context=adjacent --steps 12000",
    "mnist-mlp-2000": "mnist-mlp --steps 2000",
    "mnist-mlp-5000": "mnist-mlp --steps 5000",
    "mnist-mlp-6": "mnist-mlp --set depth=6 --steps 5000",
    "mnist-mlp-blind-2000": "mnist-mlp --set 'context=[]' --set sg_lr=0.01 --steps 2000",
}
RESULTS = Path(__file__).parent / "results"


def run(name: str, logdir: Path, jobs: int, seeds: int) -> None:
    """Run a study and keep its table."""
    command = f"antiphon study {STUDIES[name]} --seeds {seeds}"
    directory = logdir / name
    words = shlex.split(command)[1:]
    extra = ["--jobs", str(jobs), "--logdir", str(directory)]
    subprocess.run([sys.executable, "-m", "antiphon", *words, *extra], check=True)
    facts = json.loads(next(directory.glob("*/run.json")).read_text(encoding="utf-8"))
    here = machine()
    lines = (directory / "table.md").read_text(encoding="utf-8").rstrip().splitlines()
    commit, torch = facts["git"][:7], facts["versions"]["torch"]
    where = f"{facts['started'][:10]}, commit {commit}, {here['processor']}, one thread a run, torch {torch}."
    lines += ["", f"`{command}`", "", where]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copyfile(directory / "table.csv", RESULTS / f"{name}.csv")


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=[*STUDIES, "all"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--logdir", type=Path, default=Path("runs/studies"))
    arguments = parser.parse_args()
    for name in STUDIES if arguments.name == "all" else [arguments.name]:
        run(name, arguments.logdir, arguments.jobs, arguments.seeds)


if __name__ == "__main__":
    main()
