"""HTML elements of the page; these functions escape every text."""

import base64
import json
from collections.abc import Mapping
from html import escape
from string import Template
from typing import Any

# The policy forbids scripts and requests, whatever text a run may contain.
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0 auto;max-width:74rem;padding:1.5rem 1rem 3rem;background:Canvas;color:CanvasText;
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{line-height:1.15;margin:0}
h2{font-size:1.3rem;margin:2.5rem 0 1rem;border-bottom:1px solid #8888}
h3{font-size:1rem;margin:0 0 .5rem}
figure{margin:0;min-width:0}
figcaption,dt,.soft{font-size:.875rem;opacity:.75}
img{display:block;width:100%;height:auto}
progress{width:min(100%,30rem);margin-right:1rem}
.tiles{display:grid;gap:1rem;margin:0 0 1.5rem;
grid-template-columns:repeat(auto-fill,minmax(min(var(--most,100%),var(--least)),1fr))}
dl div{background:#8882;border-radius:8px;padding:.6rem .8rem}
dd{margin:0;font-weight:600}
.scroll{overflow-x:auto;margin:0 0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .9rem .4rem 0;text-align:right;white-space:nowrap;border-bottom:1px solid #8888}
th[scope=row]{text-align:left;font-weight:500}
p.soft{max-width:52rem}
pre{background:#8882;padding:.9rem;overflow:auto;max-height:32rem;font-size:.8125rem}
@media (prefers-color-scheme:dark){img[src^="data:image/svg"]{filter:invert(.93)
hue-rotate(180deg)}}
</style>
</head>
<body>
$body
</body>
</html>
""")


def render_page(title: str, body: str) -> bytes:
    """Return the page in UTF-8; characters that cannot be encoded become question marks."""
    return PAGE.substitute(title=escape(title), body=body).encode("utf-8", "replace")


def section(title: str, *parts: str) -> str:
    """Put parts under a heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>\n"


def paragraph(text: str, tag: str = "p") -> str:
    """Set a text in small letters."""
    return f'<{tag} class="soft">{escape(text)}</{tag}>'


def figure(content: bytes, kind: str, alt: str, caption: str, attributes: str = "") -> str:
    """Embed an image of type image/`kind` with its caption."""
    data = base64.b64encode(content).decode()
    image = f'<img src="data:image/{kind};base64,{data}" alt="{escape(alt)}" {attributes}>'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def tiles(parts: list[str], least: str, most: str = "100%", tag: str = "div") -> str:
    """Lay parts out side by side, each between `least` and `most` (CSS lengths) wide."""
    style = f"--least:{least};--most:{most}"
    return f'<{tag} class="tiles" style="{style}">{"".join(parts)}</{tag}>'


def details(summary: str, content: Mapping[str, Any]) -> str:
    """Show JSON when its summary is clicked."""
    text = escape(json.dumps(content, indent=2, ensure_ascii=False))
    return f'<details><summary>{escape(summary)}</summary><pre tabindex="0">{text}</pre></details>'


def table(head: list[str], rows: list[list[str]], caption: str) -> str:
    """Make a table whose first column heads its rows, in a box that scrolls by itself."""
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        lines += f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    return (
        f'{paragraph(caption)}<div class="scroll" role="region" aria-label="{escape(caption)}" '
        f'tabindex="0"><table><thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>'
    )
