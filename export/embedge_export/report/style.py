"""The report's style sheet: one column, quiet colours, light and dark, from a phone's width up."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf9; --card: #ffffff; --ink: #1d1f22; --soft: #5e6066; --line: #e5e2dc; --wash: #f4f2ed;
  --accent: #17685d; --gate: #a4473c; --s0: #47617f; --s1: #1f8078; --s2: #b7702a; --s3: #845a93; --s4: #6d7b2f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --card: #1b1e22; --ink: #e9e7e2; --soft: #a2a4a8; --line: #2f3338; --wash: #20242a;
    --accent: #6cc4b4; --gate: #e08f83; --s0: #8eabcd; --s1: #5fbdb2; --s2: #dfa05f; --s3: #bd93cb; --s4: #aebd6b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", system-ui, Arial, sans-serif;
  font-variant-numeric: tabular-nums; text-rendering: optimizeLegibility;
}
main { max-width: 54rem; margin: 0 auto; padding: 4.5rem 1.5rem 5rem; }
h1 {
  font-size: clamp(1.9rem, 1.3rem + 2.6vw, 2.9rem); line-height: 1.1; letter-spacing: -0.025em;
  margin: 0.4rem 0 0.7rem;
  font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; letter-spacing: -0.012em; line-height: 1.3; margin: 4rem 0 0.4rem; font-weight: 650; }
h3 { font-size: 1rem; margin: 0 0 0.15rem; font-weight: 650; }
p { margin: 0 0 1rem; max-width: 42rem; }
.kicker {
  color: var(--accent); font-size: 0.8rem; font-weight: 600; letter-spacing: 0.06em; margin: 0;
  text-transform: uppercase;
}
.lead { font-size: 1.1rem; line-height: 1.55; color: var(--soft); max-width: 40rem; margin-bottom: 2rem; }
.note { color: var(--soft); font-size: 0.92rem; }
a { color: inherit; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 0.9rem; margin: 0; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--c); border-radius: 8px;
  padding: 1rem 1.1rem 1.05rem; }
.card .name { font-weight: 650; font-size: 1.05rem; }
.card .kind { color: var(--soft); font-size: 0.86rem; margin-left: 0.4rem; }
.card .big { font-size: 1.85rem; letter-spacing: -0.02em; line-height: 1.15; font-weight: 600; margin-top: 0.7rem; }
.card .of { color: var(--soft); font-size: 0.86rem; margin-bottom: 0.75rem; }
.card ul { list-style: none; margin: 0; padding: 0.65rem 0 0; border-top: 1px solid var(--line); font-size: 0.9rem; }
.card li { display: flex; justify-content: space-between; gap: 1rem; line-height: 1.75; }
.card li span { color: var(--soft); }
.s0 {
  --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3);
  } .s4 { --c: var(--s4);
}
dl.facts { display: grid; grid-template-columns: minmax(8rem, 11rem) 1fr; margin: 1rem 0 0; font-size: 0.95rem;
  border-bottom: 1px solid var(--line); }
dl.facts dt, dl.facts dd {
  padding: 0.45rem 0; border-top: 1px solid var(--line); margin: 0; overflow-wrap: anywhere;
}
dl.facts dt { color: var(--soft); padding-right: 1rem; }
code, pre { font: 0.86em/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre {
  background: var(--wash); border-radius: 8px; padding: 0.9rem 1.1rem; margin: 0.8rem 0 1rem;
  white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 0.88rem; }
.scroll { overflow-x: auto; margin: 1rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; }
th, td {
  text-align: right; padding: 0.42rem 0 0.42rem 1.1rem; border-bottom: 1px solid var(--line);
  white-space: nowrap;
}
th:first-child, td:first-child {
  text-align: left; padding-left: 0; white-space: normal; color: var(--soft); font-weight: 400;
}
thead th { font-weight: 600; }
thead th, thead td { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; }
thead th::before {
  content: ""; display: inline-block; width: 0.55em; height: 0.55em; border-radius: 2px; background: var(--c);
  margin-right: 0.45em; }
td small { color: var(--soft); font-size: 0.84em; }
tfoot td { font-weight: 600; border-bottom: 0; }
.plots {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15.5rem, 100%), 1fr)); gap: 0.9rem;
  margin: 1.2rem 0;
}
figure {
  margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 0.9rem 1rem 0.7rem;
}
figcaption { color: var(--soft); font-size: 0.88rem; margin-bottom: 0.2rem; }
.plot { display: block; width: 100%; max-width: 19rem; height: auto; margin: 0 auto; }
.plot text { font-size: 11.5px; fill: var(--soft); font-family: inherit; }
.plot .t { fill: var(--ink); } .plot .g { fill: var(--gate); }
.plot .bars, .plot .dots { fill: var(--c); } .plot .dots { fill-opacity: 0.55; }
.plot .axis { stroke: var(--soft); } .plot .gate { stroke: var(--gate); stroke-dasharray: 3 3; }
.plot .frame { fill: none; stroke: var(--line); } .plot .rule { stroke: var(--soft); stroke-dasharray: 2 4; }
.meters {
  margin: 1.1rem 0 1.4rem; display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); gap: 1.6rem;
}
.meter {
  display: grid; grid-template-columns: 5.2rem 1fr; column-gap: 0.7rem; align-items: center; font-size: 0.9rem;
  line-height: 1.9;
}
.meter span { overflow-wrap: anywhere; line-height: 1.3; }
.track { display: flex; align-items: center; gap: 0.5rem; white-space: nowrap; }
.track i { background: var(--c); height: 0.7rem; border-radius: 2px; min-width: 2px; flex: none; }
ul.limits { padding-left: 1.1rem; margin: 0.8rem 0 0; max-width: 42rem; } ul.limits li { margin-bottom: 0.55rem; }
footer {
  margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 0.88rem;
}
@media (max-width: 40rem) {
  main { padding: 2.4rem 1rem 3rem; }
  h2 { margin-top: 3rem; }
  dl.facts { grid-template-columns: 1fr; }
  dl.facts dt { padding-bottom: 0; } dl.facts dd { border-top: 0; padding-top: 0; }
  th, td { padding-left: 0.7rem; }
  table { font-size: 0.86rem; }
  td small { display: block; line-height: 1.2; }
  .meters { gap: 1.2rem; }
}
@media (min-width: 48rem) { .plot text { font-size: 13.5px; } }
@media print { main { padding: 0; } figure, .card { break-inside: avoid; } }
"""
