"""The page: head, contents, sections, style and script in one file that needs no network."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from eval.report_markup import Content, Node, clean_text, element, to_html

ASSETS = Path(__file__).resolve().parent / "report_assets"
STYLE, SCRIPT = ASSETS / "report.css", ASSETS / "report.js"


def build_page(title: str, facts: Sequence[str], opening: Node, sections: Sequence[Node]) -> str:
    """Put a page together.

    Parameters
    ----------
    title : str
        Name of what is reported on.
    facts : sequence of str
        Where it comes from, in few words each.
    opening : Element
        What is said before all else.
    sections : sequence of Element
        Each with an ``id`` and its heading as first child; listed in the contents.

    Returns
    -------
    str
        HTML. Its policy forbids every request and every script but its own, so that even
        markup that had slipped in could do nothing.

    Raises
    ------
    OSError
        If style or script cannot be read.
    """
    style, script = STYLE.read_text(encoding="utf-8"), SCRIPT.read_text(encoding="utf-8")
    body = [
        element("a", {"class": "skip", "href": "#main"}, "To the figures"),
        element(
            "header",
            {},
            element("p", {"class": "kind"}, "Cell segmentation report"),
            element("h1", {}, title),
            element("ul", {"class": "facts"}, *(element("li", {}, fact) for fact in facts)),
        ),
        element(
            "div",
            {"class": "columns"},
            _build_contents(sections),
            element("main", {"id": "main"}, opening, *sections),
        ),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            *map(to_html, _build_head(title, script)),
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            *map(to_html, body),
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _build_head(title: str, script: str) -> list[Node]:
    """Name the page, and forbid what it does not need."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return [
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", {}, f"{title} \N{EN DASH} cell segmentation report"),
    ]


def _build_contents(sections: Sequence[Node]) -> Node:
    """List the sections."""
    items: list[Content] = [
        element("li", {}, element("a", {"href": f"#{s.get('id')}"}, clean_text(s[0].text or "")))
        for s in sections
    ]
    return element(
        "nav", {"class": "contents", "aria-label": "Contents"}, element("ul", {}, *items)
    )
