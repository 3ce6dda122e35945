// What TensorBoard calls to fill the Channels tab.

import { mount } from "./app.js";
import { HttpSource } from "./source.js";

/** Fill the page. */
export async function render() {
  const here = (path) => new URL(path, import.meta.url).href;
  await Promise.all([link(here("./vendor/uPlot.min.css")), link(here("./style.css")), link(here("./views.css")), script(here("./vendor/uPlot.iife.min.js"))]);
  document.title = "Channels";
  document.documentElement.style.height = "100%";
  document.body.style.cssText = "margin: 0; height: 100%";
  const root = document.createElement("div");
  root.style.height = "100%";
  document.body.append(root);
  followReload(mount(root, new HttpSource("./"), { whole: true }));
}

/** Load a part of the page; without it the page still works, only less well. */
function part(node, parent) {
  return new Promise((resolve) => {
    node.onload = resolve;
    node.onerror = resolve;
    parent.append(node);
  });
}

function link(address) {
  const node = document.createElement("link");
  node.rel = "stylesheet";
  node.href = address;
  return part(node, document.head);
}

function script(address) {
  const node = document.createElement("script");
  node.src = address;
  return part(node, document.head);
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
