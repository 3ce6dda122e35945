"""Export a trained system to ONNX and use it in a program that does not have antiphon."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import antiphon

USER = """
import sys
import numpy as np
from onnx.reference import ReferenceEvaluator  # or onnxruntime.InferenceSession

model, inputs = ReferenceEvaluator("digits.onnx"), np.load("images.npy")
np.save("scores.npy", model.run(["n3"], {"image": inputs})[0])
assert not {"antiphon", "torch"} & set(sys.modules)
"""

with antiphon.Simulation("digits-mlp", seed=0) as simulation:
    simulation.run(steps=200)
    simulation.export("digits.onnx")
    system = simulation.compose()

digits = antiphon.envs.make({"id": "antiphon/Digits-v0"}, batch=1)
test = next(digits.batches("test", 360))
np.save("images.npy", test["image"].numpy())
subprocess.run([sys.executable, "-c", USER], check=True)

scores = torch.from_numpy(np.load("scores.npy"))
torch.testing.assert_close(scores, system(image=test["image"])["n3"], rtol=1e-4, atol=1e-4)
accuracy = (scores.argmax(1) == test["label"]).float().mean().item()
assert accuracy > 0.9
print(
    f"{Path('digits.onnx').stat().st_size:,} bytes of ONNX classify {100 * accuracy:.1f} % of the test digits"
)
