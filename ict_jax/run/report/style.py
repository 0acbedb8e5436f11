"""The style sheet of the page."""

from ict_jax.run.report.svg import sequence_css

LIGHT = (
    "--paper:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#57606a;--line:#b9c0c8;--accent:#1f6feb;"
    "--good:#1a7f37;--open:#8a5a00;"
)
DARK = (
    "--paper:#0f1318;--card:#181e25;--ink:#e6eaef;--soft:#9aa4af;--line:#46505b;--accent:#6cb0ff;"
    "--good:#4ac26b;--open:#d8a43a;"
)

RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;max-width:74rem;padding:1.5rem 1rem 3rem;background:var(--paper);
color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:anywhere}
h1{font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.15;margin:0}
h2{font-size:1.3rem;margin:2.5rem 0 1rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .5rem}
p{margin:.5rem 0;max-width:48rem}
figure{margin:0;min-width:0}
figcaption,caption,.soft{color:var(--soft);font-size:.875rem}
img,svg{display:block;width:100%;height:auto}
img{border-radius:4px}
figcaption{margin-top:.3rem}
.state{display:flex;flex-wrap:wrap;align-items:center;gap:.35rem 1rem;margin:.9rem 0 1.2rem}
progress{flex:1 1 14rem;max-width:30rem;height:.6rem;accent-color:var(--accent)}
.finished{color:var(--good)}
.unfinished{color:var(--open)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:0}
.facts div{display:flex;flex-direction:column;justify-content:space-between;
background:var(--card);border-radius:8px;padding:.6rem .8rem}
dt{color:var(--soft);font-size:.8125rem}
dd{margin:0;font-size:1.15rem;font-weight:600;font-variant-numeric:tabular-nums}
.newest{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:1rem;
margin-bottom:1.5rem}
.newest figure{max-width:32rem}
.earlier{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(30%,9.5rem),1fr));
gap:.75rem;margin-bottom:1.5rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));
gap:1.25rem}
.chart{background:var(--card);border-radius:8px;padding:clamp(.6rem,2vw,.9rem)}
svg text{font-family:inherit!important}
svg *{stroke-linejoin:round;stroke-linecap:butt}
.scroll{overflow-x:auto;margin:.5rem 0 1rem}
table{border-collapse:collapse;min-width:min(100%,30rem);font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.4rem}
th,td{padding:.4rem .9rem .4rem 0;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:500}
tbody th{text-align:left;font-weight:500}
details{margin:.75rem 0}
summary{cursor:pointer}
pre{background:var(--card);border-radius:8px;padding:.9rem;overflow:auto;max-height:32rem;
font-size:.8125rem}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
footer{margin-top:3rem}
@media print{details>*{display:block}.chart{break-inside:avoid}}
"""


def css() -> str:
    """The rules, and the colours of both schemes."""
    light, dark = LIGHT + sequence_css(0, 0.85), DARK + sequence_css(0.3, 1)
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}{RULES}"
    )
