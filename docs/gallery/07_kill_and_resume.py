"""Kill a run with SIGKILL and go on with it: the same bits as if nothing had happened."""

import subprocess
import sys
import time
from pathlib import Path

import torch

import antiphon

LOGDIR = Path("runs/killed")

x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))  # the same data in every process
env = antiphon.envs.from_tensors(x=x, label=(x[:, 0] * x[:, 1] > 0).long())
goal = {"kind": "classification", "target": "label"}
agents = {"eye": {"observes": ["x"]}, "mind": {"objective": goal}}
channels = [{"from": "eye", "to": "mind", "size": 16, "gradient": {"context": ["label"]}}]
scenario = antiphon.Scenario(
    scenario="mine", env=env, agents=agents, channels=channels, training={"batch": 32, "steps": 200}
)

if sys.argv[1:] == ["train"]:  # the child: slowed down, so that it is killed in the middle
    with antiphon.Simulation(scenario, seed=0, logdir=LOGDIR, checkpoint_every=25) as simulation:
        simulation.run(callbacks=[lambda _: time.sleep(0.02)])
    sys.exit()

with subprocess.Popen([sys.executable, __file__, "train"]) as child:
    while not (LOGDIR / "checkpoints/step-000000050").exists() and child.poll() is None:
        time.sleep(0.01)
    child.kill()  # SIGKILL

with antiphon.Simulation.resume(LOGDIR, scenario=scenario) as resumed, antiphon.Simulation(scenario) as whole:
    start = resumed.now
    resumed.run()  # to the 200 steps of the scenario
    whole.run()
assert 50 <= start < resumed.now == whole.now == 200
torch.testing.assert_close(resumed.compose().state_dict(), whole.compose().state_dict(), rtol=0, atol=0)
print(f"killed, resumed at step {start}: the same bits at step {resumed.now}")
