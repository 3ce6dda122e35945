"""Look at the channels of a run: in TensorBoard, as a page, and as numbers."""

import antiphon

with antiphon.Simulation("digits-mlp", logdir="runs/digits") as simulation:
    view = simulation.show()  # in a notebook the graph is drawn here, and again as the run goes on
    history = simulation.run(steps=200)
    page = view.save("channels.html")  # one file, no network needed

newest = history.rows()[-1]  # every metric by name
cosines = {name: value for name, value in newest.items() if name.endswith(".cosine")}
for name in sorted(cosines, key=lambda name: cosines[name]):
    print(
        f"{name.removesuffix('.cosine')}: the synthetic gradient has a cosine of {cosines[name]:.2f} with the true one"
    )
print(f"all channels: antiphon tb {simulation.logdir}")
assert "digits-mlp" in page.read_text(encoding="utf-8")
