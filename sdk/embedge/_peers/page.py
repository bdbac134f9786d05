"""The page of a comparison, and the style of its picture, which an SVG file carries along."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1d2126; --quiet: #6a7078; --line: #d9d6cf;
  --ours: #c8442f; --theirs: #8d99a6; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8e6e1; --quiet: #969ba3; --line: #33383e;
  --ours: #e2694f; --theirs: #7d8894; } }
svg text { font: 12.5px system-ui, sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .title { font-size: 14.5px; font-weight: 600; }
svg .unit, svg .cosine { fill: var(--quiet); font-size: 11.5px; }
svg text.other { fill: var(--ours); }
svg .ours { fill: var(--ours); }
svg .theirs { fill: var(--theirs); }
svg rect.other { fill-opacity: .35; stroke: var(--theirs); stroke-dasharray: 3 2; }
svg .spread { fill: none; stroke: var(--ink); stroke-width: 1.2; }
svg .paper { fill: var(--paper); }
"""

MARK = "<!-- embedge bench -->"
"""By which a page or picture that this command wrote is known."""

PAGE = """<!doctype html>
{{mark}}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{title}}</title>
<style>{{style}}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.lead { color: var(--quiet); margin: 0 0 2rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 2.2rem 2.5rem; }
.panels svg { display: block; width: 100%; height: auto; overflow: visible; }
.scroll { overflow-x: auto; margin: 2.5rem 0 1.5rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .4rem 0 .4rem 1rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
td:last-child { white-space: normal; }
ul { color: var(--quiet); font-size: .9rem; padding-left: 1.1rem; max-width: 48rem; }
</style>
</head>
<body>
<main>
<h1>{{name}}</h1>
<p class="lead">{{lead}}</p>
<div class="panels">{{panels}}</div>
<div class="scroll">{{table}}</div>
<ul>{{notes}}</ul>
</main>
</body>
</html>
"""
