"""Train on data of one's own, with a document and three commands."""

import subprocess
from pathlib import Path

import numpy as np

noise = np.random.default_rng(0)
kinds = noise.integers(3, size=2_000)
turns = noise.random((2_000, 1)) + np.linspace(0, 2, 32)
shapes = np.stack([np.sin(6.28 * turns), np.sign(np.sin(6.28 * turns)), 2 * (turns % 1) - 1], 1)
waves = shapes[np.arange(2_000), kinds] + 0.3 * noise.normal(size=turns.shape)
np.savez("waves.npz", wave=waves.astype(np.float32), kind=kinds)

Path("waves.py").write_text("""\
import antiphon
import numpy as np

@antiphon.environment("waves")
def waves(file):
    return antiphon.envs.from_tensors(**np.load(file), test=0.2)
""")
Path("waves.yaml").write_text("""\
scenario: waves
env: {id: waves, file: waves.npz}
agents:
  ear: {observes: [wave]}
  mind: {objective: {kind: classification, target: kind}}
channels:
  - {from: ear, to: mind, size: 16, gradient: {context: [kind]}}
training: {steps: 400, evaluate: {period: 100, keep_best: accuracy}}
""")
for command in ("check waves.yaml", "run waves.yaml --name waves", "evaluate runs/waves --checkpoint best"):
    words = ["antiphon", "--import", "waves", *command.split()]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    print(f"$ antiphon --import waves {command}\n{done.stdout}")
assert "accuracy" in done.stdout
