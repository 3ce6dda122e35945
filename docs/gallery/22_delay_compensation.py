"""A coupling of your own: the returned gradient, corrected for how far the message has moved (Zheng et al. 2017)."""

import antiphon
from antiphon.comms import Coupling


@antiphon.coupling("compensated")
class Compensated(Coupling):
    """The returned gradient g + strength g g (m_now - m_then), as the message m has moved since it was sent."""

    uses_returned = waits = True

    class Options(antiphon.Options):
        """Keys of `compensated`.

        Attributes:
            strength: Factor of the correction (lambda in the paper); 0: as `delayed`.
        """

        strength: float = 5.0

    def __init__(self, strength=5.0):
        self.strength = strength

    def credit(self, message, step):
        gradient = message.returned_gradient
        if gradient is None:
            return None
        return gradient + self.strength * gradient * gradient * (message.now - message.sent)


def losses(coupling):
    """Test losses after 150, 300, 450 and 600 steps: messages and gradients take eight steps, except where locked."""
    channel = {"size": 32, "coupling": coupling, "link": {"delay": 0 if coupling == "locked" else 8}}
    if coupling == "decoupled":
        channel["gradient"] = {"context": ["label"]}
    if coupling in ("delayed", "compensated"):
        channel["horizon"] = 64
    network, aligned = {"kind": "mlp", "hidden": [64], "norm": "batch"}, coupling != "locked"
    goal = {"kind": "classification", "target": "label"}
    mid, mind = ({"network": network, "align": aligned} | own for own in ({}, {"objective": goal}))
    scenario = antiphon.Scenario(
        scenario="compensated",
        env={"id": "antiphon/Digits-v0"},
        agents={"eye": {"observes": ["image"], "network": network}, "mid": mid, "mind": mind},
        channels=[{"from": s, "to": r, **channel} for s, r in (("eye", "mid"), ("mid", "mind"))],
        training={"batch": 64, "steps": 600, "optimiser": {"kind": "sgd", "lr": 0.05}},
    )
    with antiphon.Simulation(scenario) as simulation:
        for _ in range(4):
            simulation.run(150, progress=False)
            yield simulation.evaluate().agents["mind"]["loss"]


names = ("locked", "delayed", "compensated", "decoupled")
table = {name: list(losses(name)) for name in names}
for name, found in table.items():
    print(f"{name:12}", *(f"{loss:.3f}" for loss in found))
assert table["compensated"][-1] < 0.7 * table["delayed"][-1]
