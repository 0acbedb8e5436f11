"""HTML from nested elements, so that every text is escaped."""

import base64
from xml.etree import ElementTree

Element = ElementTree.Element


def element(tag: str, *children: Element | str | None, **attributes: object) -> Element:
    """An element; in the names of attributes `_` stands for `-`, and `class_` for `class`.

    Texts are escaped when the page is written. None, as a child or as an attribute, is left out.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), str(value))
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + child
        elif child is not None:
            made.text = (made.text or "") + child
    return made


def table(head: list[str], rows: list[list[str]], *, caption: str) -> Element:
    """A table whose first column heads its rows, in a box that scrolls by itself."""

    def row(cells: list[str]) -> Element:
        return element(
            "tr",
            element("th", cells[0], scope="row"),
            *(element("td", cell) for cell in cells[1:]),
        )

    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *(element("th", cell, scope="col") for cell in head))),
            element("tbody", *map(row, rows)),
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def image(png: bytes, width: int, height: int, alt: str) -> Element:
    """A picture within the page itself."""
    data = base64.b64encode(png).decode()
    return element("img", src=f"data:image/png;base64,{data}", width=width, height=height, alt=alt)


def to_html(page: Element) -> bytes:
    """The whole page; what UTF-8 cannot hold becomes a question mark."""
    text = ElementTree.tostring(page, encoding="unicode", method="html")
    return f"<!doctype html>\n{text}\n".encode("utf-8", "replace")
