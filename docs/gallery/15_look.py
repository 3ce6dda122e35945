"""Look at the channels of a run: in TensorBoard, as a page, and as numbers."""

import subprocess
from pathlib import Path

import antiphon

logdir = "runs/digits"
with antiphon.Simulation("digits-mlp", logdir=logdir) as simulation:
    history = simulation.run(steps=200)
subprocess.run(
    ["antiphon", "report", logdir, "--output", "channels.html"], check=True
)  # one file, no network needed

newest = history.rows()[-1]  # every metric by name
cosines = {name: value for name, value in newest.items() if name.endswith(".cosine")}
for name in sorted(cosines, key=lambda name: cosines[name]):
    print(
        f"{name.removesuffix('.cosine')}: the synthetic gradient has a cosine of {cosines[name]:.2f} with the true one"
    )
print(f"all channels: antiphon tb {logdir}")
assert "digits-mlp" in Path("channels.html").read_text(encoding="utf-8")
