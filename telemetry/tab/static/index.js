// What TensorBoard calls to fill the Channels tab.

import { mount } from "./app.js";
import { el } from "./drawing/dom.js";
import { HttpSource } from "./data/source.js";

/** Fill the page. */
export async function render() {
  const here = (path) => new URL(path, import.meta.url).href;
  const sheets = ["./vendor/uPlot.min.css", "./style.css"].map((path) => el("link", { rel: "stylesheet", href: here(path) }));
  await loaded(el("script", { src: here("./vendor/locale.js") }));
  await Promise.all([...sheets, el("script", { src: here("./vendor/uPlot.iife.min.js") })].map(loaded));
  document.title = "Channels";
  document.body.style.margin = "0";
  const root = el("div", { style: "height: 100vh" });
  document.body.append(root);
  followReload(mount(root, new HttpSource(), true));
}

/** Load a part of the page; without it the page still works, only less well. */
function loaded(node) {
  return new Promise((resolve) => {
    node.onload = node.onerror = resolve;
    document.head.append(node);
  });
}

/** Fetch what is new when TensorBoard reloads; its messages to plugins are experimental, so at best. */
function followReload(app) {
  if (window.parent === window) return;
  const channel = new MessageChannel();
  window.parent.postMessage("experimental.bootstrap", "*", [channel.port2]);
  channel.port1.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.isReply) return;
    if (message.type === "experimental.DataReloaded") app.refresh();
    channel.port1.postMessage(JSON.stringify({ ...message, isReply: true, payload: null }));
  };
}
