"""Compare couplings over five seeds: a table with intervals."""

import torch

import antiphon

x = torch.randn(1_500, 8, generator=torch.Generator().manual_seed(0))
data = antiphon.envs.from_tensors(x=x, label=(x[:, 0] * x[:, 1] > 0).long(), test=0.2)


def signs(coupling: str = "decoupled") -> antiphon.Scenario:
    return antiphon.Scenario(
        scenario="signs",
        env=data,
        agents={
            "eye": {"observes": ["x"]},
            "mind": {"objective": {"kind": "classification", "target": "label"}},
        },
        channels=[
            {"from": "eye", "to": "mind", "size": 8, "coupling": coupling, "gradient": {"context": ["label"]}}
        ],
        training={"batch": 64, "steps": 300},
    )


variants = {name: {"coupling": name} for name in ("locked", "decoupled", "detached")}
table = antiphon.study(signs, variants=variants, seeds=5, logdir="runs/couplings")
print(table)
by_variant = table.to_pandas().set_index("variant")
assert by_variant.loc["decoupled", "low"] > by_variant.loc["detached", "high"]  # the intervals are apart
