"""Find the dead channel: three eyes send to one mind, and the third one sees only noise."""

import torch

import antiphon
from antiphon.inspection.ablation import ablate

torch.manual_seed(0)
left, right, noise = torch.randn(3, 4000, 8).unbind()
label = (left.sum(1) + right.sum(1) > 0).long()
env = antiphon.envs.from_tensors(left=left, right=right, noise=noise, label=label)

gradient = {"kind": "linear", "context": ["label"]}
agents = {f"{name}_eye": {"observes": [name]} for name in ("left", "right", "noise")}
channels = [{"from": eye, "to": "mind", "size": 4, "gradient": gradient} for eye in agents]
agents["mind"] = {"objective": {"kind": "classification", "target": "label"}}
scenario = antiphon.Scenario(
    scenario="three-eyes", env=env, agents=agents, channels=channels, training={"batch": 128}
)

with antiphon.Simulation(scenario, seed=0) as simulation:
    simulation.run(steps=300)
    found = ablate(simulation, "resample")  # what do its messages contribute, on the test split?
print(found)

needed = [name for name in found.ranked() if found.readouts[name]["loss"].verdict == "helps"]
assert sorted(needed) == ["left_eye->mind", "right_eye->mind"]
print("dead: noise_eye->mind")
