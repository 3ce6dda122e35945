// The page for tests and scripts, as `root.antiphon`.

import { shownColour } from "./data/shown.js";

/** Return what can be asked of the page and done with it, by numbers instead of by hand. Sides: 0, and 1 for the run beside. */
export function remote({ model, layout, loading, ready, choose, refresh, theme }) {
  const { player, stages } = layout;
  const view = (side = 0) => stages[side].view;
  const colour = (part, index, side) => shownColour(model.data(side, player.step, false)[part], index, theme());
  return {
    ready,
    refresh,
    view,
    /** Resolves when all that was asked for is fetched and drawn. */
    idle: () => loading.idle(),
    step: () => player.step,
    /** All steps the slider can stand at. */
    steps: () => [...player.steps],
    /** Show the newest logged step at or before one. */
    setStep: (step) => player.setStep(step),
    /** Select an item of the first run by its number; `also`: beside the one selected before. */
    select: (kind, index, also = false) => choose(kind, model.runs[0].nameOf(kind, index), also),
    /** The item selected as {kind, index}, or null. */
    selection(side = 0) {
      const { both, ...item } = model.chosen(side) ?? {};
      return both ? item : null;
    },
    /** Whether an item is found. */
    matches(kind, index, side = 0) {
      const masks = model.masks(side, player.step);
      return !masks || masks[kind][index] === 1;
    },
    /** How many agents and channels a run has. */
    counts(side = 0) {
      const { agents = [], channels = [] } = model.runs[side] ?? {};
      return { agents: agents.length, channels: channels.length };
    },
    /** The scale of the lines' colours: {scale, low, high}. */
    scale() {
      const { scale, low, high } = model.data(0, player.step, false).metric;
      return { scale, low, high };
    },
    /** The colour of a channel, and of an agent's ring. */
    channelColour: (index, side = 0) => colour("metric", index, side),
    agentRing: (index, side = 0) => colour("ring", index, side),
    /** Points in px of the page: on a channel's line, the middle of an agent's disc, the middle of a channel's cell in the matrix. */
    edgePoint: (index, side = 0) => view(side).pointOf("channel", index),
    agentPoint: (index, side = 0) => view(side).pointOf("agent", index),
    cellPoint: (index, side = 0) => view(side).cellPoint(index),
  };
}
