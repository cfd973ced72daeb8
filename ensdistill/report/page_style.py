"""The style sheet of the page: one column that fits a phone, colours for light and dark mode."""

CSS = """
:root { color-scheme: light dark; --text: #1c1e21; --muted: #5b6168; --page: #ffffff;
  --card: #f5f6f7; --line: #d8dbdf; --bar: #0072b2; --below: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e7e9; --muted: #a2a8b0; --page: #15171a;
  --card: #202327; --line: #3a3f45; --bar: #56b4e9; --below: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: .4rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
h3::first-letter { text-transform: uppercase; }
p { margin: .4rem 0; } .note, figcaption { color: var(--muted); font-size: .875rem; }
.verdict { background: var(--card); border-left: 4px solid var(--bar); border-radius: 4px;
  padding: .6rem 1rem; font-size: 1.05rem; }
ul.verdict { list-style: none; margin: .4rem 0; } ul.verdict li { margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--page); }
tr.first td { border-top: 2px solid var(--muted); } td b { font-weight: 700; }
.gap { display: grid; grid-template-columns: 16rem 1fr 8rem; gap: 0 .8rem; align-items: center;
  font-size: .875rem; padding: .15rem 0; }
.gap .value { font-variant-numeric: tabular-nums; white-space: nowrap; }
.track { position: relative; height: 1.1rem; background: var(--card); border-radius: 3px; }
.track i { position: absolute; top: 0; bottom: 0; } .track .mark { width: 0;
  border-left: 1px solid var(--muted); top: -.15rem; bottom: -.15rem; }
.track .fill { background: var(--bar); border-radius: 2px; top: .2rem; bottom: .2rem; }
.track .fill.below { background: var(--below); }
.track .error { border: solid var(--text); border-width: 0 1px; top: .3rem; bottom: .3rem; }
.track .error::after { content: ""; position: absolute; left: 0; right: 0; top: 50%;
  border-top: 1px solid var(--text); }
.scale { color: var(--muted); font-size: .8rem; position: relative; height: 1.3rem; }
.scale span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
figure { margin: .5rem 0 1.5rem; } figure .card { background: #ffffff; border-radius: 6px;
  padding: .5rem; border: 1px solid var(--line); overflow-x: auto; }
figure img { display: block; margin: 0 auto; max-width: max(100%, 34rem); height: auto; }
pre { background: var(--card); padding: .6rem .8rem; border-radius: 4px; overflow-x: auto;
  font-size: .8125rem; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
td.heat { --share: calc(var(--closed) * 55%);
  background: color-mix(in srgb, var(--bar) var(--share), transparent); }
@media (max-width: 40rem) { body { padding: .7rem; } .gap { grid-template-columns: 1fr 8rem; }
  .gap .name { grid-column: 1 / -1; } }
"""
