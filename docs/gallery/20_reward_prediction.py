"""An agent predicts the reward, and what it sends back is all that the eye learns from; a player acts on what the eye sends."""

import antiphon

network = {"kind": "mlp", "hidden": [32], "norm": "none", "activation": "tanh"}
clock = {"unroll": 8}
prediction = {"kind": "regression", "target": "reward"}
scenario = antiphon.Scenario(
    scenario="prediction",
    env={"id": "antiphon/KeyDoor-v0", "size": 5, "limit": 40},
    readout="player",
    agents={
        "eye": {"observes": ["observation"], "network": network, "clock": clock},
        "player": {"acts": True, "network": network, "clock": clock, "objective": {"kind": "a2c"}},
        "oracle": {"network": network, "clock": clock, "objective": prediction},
    },
    channels=[
        {"from": "eye", "to": "player", "size": 16, "coupling": "detached"},
        {"from": "eye", "to": "oracle", "size": 16, "coupling": "locked"},
    ],
    training={"batch": 64, "optimiser": {"kind": "adam", "lr": 3e-3}},
)
with antiphon.Simulation(scenario) as simulation:
    history = simulation.run(steps=2000, progress=False)
    error = history.rows()[-1]["oracle.error"]
    length = simulation.world.metrics()["episode_length"]
    print(f"the door is open after {length:.1f} steps; the squared error of the prediction is {error:.3f}")
rate = 1 / length  # of steps with the reward 1
assert length < 10  # 40 steps at most
assert error < rate * (1 - rate) / 2  # half the reward's variance
