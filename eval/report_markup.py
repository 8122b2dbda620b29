"""Markup as a tree, so that no text from a file can become markup."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Node = ET.Element
Content = Node | str | None  # None is left out, which keeps conditions inside calls
Attributes = Mapping[str, str | float]

# Control characters, invisible ones, marks that turn the direction of writing, halves of surrogates
UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
NOT_KNOWN = "\N{EN DASH}"  # in place of a figure that nobody measured


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    head : str
        What the column holds.
    is_number : bool
        Set flush right, in figures of one width.
    hint : str
        Longer words for the head, shown on hovering.
    """

    head: str
    is_number: bool = True
    hint: str = ""


def element(tag: str, attributes: Attributes | None = None, *content: Content) -> Node:
    """Build an element.

    Parameters
    ----------
    tag : str
        Its name.
    attributes : mapping, optional
        Values as they are to be read; escaping is left to the writer.
    content : Element, str or None
        Children and text in their order.

    Returns
    -------
    Element
        To be given to another element or to :func:`to_html`.
    """
    node = ET.Element(tag, {k: clean_text(str(v)) for k, v in (attributes or {}).items()})
    last: Node | None = None
    for child in content:
        if child is None:
            continue
        if not isinstance(child, str):
            node.append(child)
            last = child
        elif last is None:
            node.text = (node.text or "") + clean_text(child)
        else:
            last.tail = (last.tail or "") + clean_text(child)
    return node


def to_html(node: Node) -> str:
    """Write an element as HTML; text and attribute values are escaped."""
    return ET.tostring(node, encoding="unicode", method="html")


def clean_text(text: str) -> str:
    """Replace characters that file names may hold and no document should, see :data:`UNFIT`."""
    return UNFIT.sub("\ufffd", text)


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Content]],
    name: str = "",
) -> Node:
    """Build a table in a frame that scrolls sideways by itself.

    Parameters
    ----------
    caption : str
        What the table shows.
    columns : sequence of Column
        The first one names the row.
    rows : iterable of sequence of Element, str or None
        As many cells as there are columns. A row's class is that of its first cell, if it is an
        element.
    name : str
        Class of the table.

    Returns
    -------
    Element
        A region that the keyboard can reach and scroll.
    """
    heads = [
        element(
            "th",
            {"scope": "col", **_column_class(c), **({"title": c.hint} if c.hint else {})},
            c.head,
        )
        for c in columns
    ]
    body = [_row(columns, row) for row in rows]
    return element(
        "div",
        {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": caption},
        element(
            "table",
            {"class": name} if name else {},
            element("caption", {}, caption),
            element("thead", {}, element("tr", {}, *heads)),
            element("tbody", {}, *body),
        ),
    )


def section(identifier: str, title: str, *content: Content) -> Node:
    """Build a section with its heading, a landmark of its own."""
    heading = element("h2", {"id": f"{identifier}-title"}, title)
    attributes = {"id": identifier, "aria-labelledby": f"{identifier}-title"}
    return element("section", attributes, heading, *content)


def paragraph(text: str, name: str = "") -> Node:
    """Build a paragraph."""
    return element("p", {"class": name} if name else {}, text)


def absent(text: str) -> Node:
    """Build the line that stands in for a part whose input was not given."""
    return paragraph(text, "absent")


def details(title: str, *content: Content) -> Node:
    """Build a part that opens on demand."""
    return element("details", {}, element("summary", {}, title), *content)


def format_number(value: float | None, digits: int = 3) -> str:
    """Format a figure; a dash where it is not known (None, NaN)."""
    if value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
        return NOT_KNOWN
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "\N{MINUS SIGN}")


def format_interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Format an interval; a dash where an end is not known."""
    ends = format_number(low, digits), format_number(high, digits)
    return NOT_KNOWN if NOT_KNOWN in ends else "\N{EN DASH}".join(ends)


def _column_class(column: Column) -> dict[str, str]:
    """Class of the cells of a column."""
    return {"class": "n"} if column.is_number else {}


def _row(columns: Sequence[Column], row: Sequence[Content]) -> Node:
    """Build a row; its first cell is the head."""
    first, *others = row
    group = first.get("class") if isinstance(first, Node) else None
    return element(
        "tr",
        {"class": group} if group else {},
        element("th", {"scope": "row"}, first),
        *(
            element("td", _column_class(column), cell)
            for column, cell in zip(columns[1:], others, strict=True)
        ),
    )
