"""The page of a map, without any other file: points on a canvas, zoomed, moved, searched, and read."""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{{title}}</title>
<style>
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1d2126; --quiet: #6a7078; --point: #2a6f97;
  --found: #c4461a; --line: #d9d6cf; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8e6e1; --quiet: #969ba3; --point: #7fb8d8;
  --found: #ff9466; --line: #33383e; } }
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; padding: .6rem 1rem;
  border-bottom: 1px solid var(--line); }
h1 { font-size: 1rem; margin: 0; }
p { margin: 0; color: var(--quiet); flex: 1 1 12rem; font-size: .9rem; }
input, button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line);
  border-radius: 6px; padding: .25rem .6rem; min-height: 2rem; }
input { width: 14rem; max-width: 100%; }
button { cursor: pointer; min-width: 2rem; }
main { position: relative; flex: 1; min-height: 0; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: grab; }
output { position: absolute; pointer-events: none; max-width: min(26rem, 90%); padding: .5rem .7rem; display: none;
  background: var(--paper); border: 1px solid var(--line); border-radius: 6px; box-shadow: 0 2px 10px #0003;
  overflow-wrap: anywhere; white-space: pre-line; }
output b { display: block; color: var(--quiet); font-weight: 500; font-size: .8rem; }
</style>
</head>
<body>
<header>
<h1>{{title}}</h1>
<p>{{how}} <span id="count"></span></p>
<input id="search" type="search" placeholder="Find in texts" aria-label="Find in texts">
<button id="in" aria-label="Zoom in">+</button>
<button id="out" aria-label="Zoom out">−</button>
<button id="all">All</button>
</header>
<main><canvas id="map" aria-label="Rows as points"></canvas><output id="told"></output></main>
<script type="application/json" id="data">{{data}}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [canvas, told, search, counted] = ["map", "told", "search", "count"].map(id => document.getElementById(id));
const pen = canvas.getContext("2d");
const count = data.x.length;
const lower = data.texts.map(text => text.toLowerCase());
const EDGE = 24, REACH = 14, CELLS = 128;

// the points of each cell of a grid, so that the nearest to the pointer is found at once
const cells = new Map();
const cellOf = value => Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
for (let i = 0; i < count; i++) {
  const key = cellOf(data.x[i]) * CELLS + cellOf(data.y[i]);
  if (cells.has(key)) cells.get(key).push(i); else cells.set(key, [i]);
}

let width = 0, height = 0, zoom = 1, left = 0, top_ = 0, shown = -1, found = null, asked = false;
const across = () => Math.max(1, width - 2 * EDGE) * zoom;
const down = () => Math.max(1, height - 2 * EDGE) * zoom;
const placeX = i => left + EDGE + data.x[i] * across();
const placeY = i => top_ + EDGE + (1 - data.y[i]) * down();

function draw() {
  asked = false;
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const ratio = window.devicePixelRatio || 1;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const size = Math.min(7, (count > 20000 ? 2 : count > 2000 ? 3 : 5) * Math.pow(zoom, 0.25));
  const dots = (wanted, fill, alpha, grow) => {
    pen.fillStyle = fill;
    pen.globalAlpha = alpha;
    const side = size * grow;
    for (let i = 0; i < count; i++) {
      if (!wanted(i)) continue;
      const x = placeX(i), y = placeY(i);
      if (x < -side || y < -side || x > width + side || y > height + side) continue;
      if (count > 5000) { pen.fillRect(x - side / 2, y - side / 2, side, side); continue; }
      pen.beginPath();
      pen.arc(x, y, side / 2, 0, 2 * Math.PI);
      pen.fill();
    }
  };
  dots(i => !found || !found.has(i), colour("--point"), found ? 0.15 : count > 5000 ? 0.5 : 0.75, 1);
  if (found) dots(i => found.has(i), colour("--found"), 0.9, 1.4);
  pen.globalAlpha = 1;
  if (shown >= 0) {
    pen.strokeStyle = colour("--ink");
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(placeX(shown), placeY(shown), size / 2 + 3, 0, 2 * Math.PI);
    pen.stroke();
  }
}
function redraw() { if (!asked) { asked = true; requestAnimationFrame(draw); } }

function fit() {
  const ratio = window.devicePixelRatio || 1;
  width = canvas.clientWidth; height = canvas.clientHeight;
  canvas.width = width * ratio; canvas.height = height * ratio;
  draw();
}

function nearest(x, y) {
  const dataX = (x - left - EDGE) / across(), dataY = 1 - (y - top_ - EDGE) / down();
  const reachX = REACH / across(), reachY = REACH / down();
  let best = -1, least = REACH * REACH;
  for (let a = cellOf(dataX - reachX); a <= cellOf(dataX + reachX); a++)
    for (let b = cellOf(dataY - reachY); b <= cellOf(dataY + reachY); b++)
      for (const i of cells.get(a * CELLS + b) || []) {
        const far = (placeX(i) - x) ** 2 + (placeY(i) - y) ** 2;
        if (far < least) { least = far; best = i; }
      }
  return best;
}

function tell(i) {
  if (i !== shown) { shown = i; redraw(); }
  told.style.display = i < 0 ? "none" : "block";
  if (i < 0) return;
  const name = document.createElement("b");
  name.textContent = data.ids[i];
  told.replaceChildren(name, data.texts[i]);
  const x = placeX(i), y = placeY(i);
  told.style.left = Math.max(4, Math.min(x + 14, width - told.offsetWidth - 4)) + "px";
  told.style.top = (y + told.offsetHeight + 18 < height ? y + 14 : Math.max(4, y - told.offsetHeight - 14)) + "px";
}

function zoomBy(factor, x, y) {
  const next = Math.max(1, Math.min(5000, zoom * factor));
  left = x - EDGE - (x - EDGE - left) * next / zoom;
  top_ = y - EDGE - (y - EDGE - top_) * next / zoom;
  zoom = next;
  if (zoom === 1) left = top_ = 0;
  tell(-1);
  redraw();
}

const fingers = new Map();
const apart = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
const at = event => {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
};
canvas.addEventListener("pointerdown", event => {
  const { x, y } = at(event);
  fingers.set(event.pointerId, { x, y });
  tell(nearest(x, y));
});
for (const name of ["pointerup", "pointercancel", "pointerleave"])
  canvas.addEventListener(name, event => { fingers.delete(event.pointerId); if (name === "pointerleave") tell(-1); });
canvas.addEventListener("pointermove", event => {
  const now = at(event), before = fingers.get(event.pointerId);
  if (!before) { tell(nearest(now.x, now.y)); return; }
  if (fingers.size === 2) {
    const old = apart();
    fingers.set(event.pointerId, now);
    zoomBy(apart() / Math.max(1, old), now.x, now.y);
    return;
  }
  left += now.x - before.x;
  top_ += now.y - before.y;
  fingers.set(event.pointerId, now);
  tell(-1);
  redraw();
});
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at(event).x, at(event).y);
}, { passive: false });
document.getElementById("in").onclick = () => zoomBy(1.6, width / 2, height / 2);
document.getElementById("out").onclick = () => zoomBy(1 / 1.6, width / 2, height / 2);
document.getElementById("all").onclick = () => zoomBy(1e-9, 0, 0);
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  found = wanted ? new Set([...lower.keys()].filter(i => lower[i].includes(wanted))) : null;
  counted.textContent = found ? found.size.toLocaleString("en") + " found" : "";
  redraw();
});
new ResizeObserver(fit).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
fit();
</script>
</body>
</html>
"""
