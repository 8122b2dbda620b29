"""What the router sends where, as confusion tables."""

from eval.report_inputs import ConfusionTable, Routing
from eval.report_markup import (
    Column,
    Content,
    Node,
    absent,
    element,
    format_number,
    paragraph,
    section,
    table,
)

N_SHADES = 5  # steps of a cell's ground, by the share of its row


def build_router(routing: Routing | None) -> Node:
    """Build the section on the router.

    Parameters
    ----------
    routing : Routing or None
        None gives a line that says what is missing.

    Returns
    -------
    Element
        The section.
    """
    title = "Router"
    if routing is None:
        return section("router", title, absent("Not measured: no --router file was given."))
    return section(
        "router",
        title,
        paragraph(
            "A row is what an image is, a column where the router sends it; correct decisions are "
            "framed. The expert of a brightfield image is a suggestion from the size of its cells."
        ),
        element(
            "div",
            {"class": "pair"},
            _confusion_table("Modality", routing.modality),
            _confusion_table("Brightfield expert", routing.expert),
        ),
        _error_table(routing),
    )


def _confusion_table(what: str, confusion: ConfusionTable) -> Node:
    """Build a table of counts, shaded by the share of the row, with the share that is right."""
    columns = [Column("is \\ sent to", is_number=False), *map(Column, confusion.names)]
    columns.append(Column("Right"))
    rows = []
    for i, (name, counts) in enumerate(zip(confusion.names, confusion.counts, strict=True)):
        total = sum(counts)
        cells: list[Content] = [name]
        for j, n in enumerate(counts):
            shade = round(N_SHADES * n / total) if total else 0
            frame = " right" if i == j else ""
            cells.append(element("span", {"class": f"cell h{shade}{frame}"}, format_number(n, 0)))
        cells.append(format_number(counts[i] / total if total else None))
        rows.append(cells)
    share = confusion.n_right / confusion.n_images if confusion.n_images else None
    caption = f"{what}: {format_number(share)} of {confusion.n_images} images right"
    return table(caption, columns, rows, "confusion")


def _error_table(routing: Routing) -> Node:
    """List the data sets with images that went astray."""
    if not routing.errors:
        return paragraph("No image went astray.")
    columns = [
        Column("Data set", is_number=False),
        Column("Images"),
        Column("Sent elsewhere"),
        Column("Where to", is_number=False),
    ]
    rows = []
    for name, group in routing.errors.items():
        wrong = {key: n for key, n in group.items() if key != "images"}
        where = ", ".join(f"{n} to {key}" for key, n in wrong.items())
        n_images = format_number(group.get("images", 0), 0)
        rows.append([name, n_images, format_number(sum(wrong.values()), 0), where])
    return table("Data sets with images that went astray", columns, rows)
