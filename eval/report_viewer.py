"""The section in which one steps through the worst and the best images."""

import logging
from collections.abc import Mapping, Sequence

from eval.report_examples import Example, FileIndex, choose_examples
from eval.report_markup import Content, Node, absent, element, format_number, paragraph, section
from eval.report_overlays import FILLS, Overlay, draw_example
from eval.report_sizes import name_modality
from eval.run_file import Run
from imaging.reading import ImageError

logger = logging.getLogger(__name__)

LAYERS = (
    ("image", "Image"),
    ("true", "True outlines"),
    ("pred", "Predicted outlines"),
    ("errors", "Errors"),
)
HELP = "The arrow keys left and right step from image to image; the boxes switch the layers."
MEANINGS = {
    "matched": "matched",
    "missed": "missed: a true cell without a match",
    "invented": "invented: a prediction without a cell",
    "split": "split: a true cell cut into several",
    "merged": "merged: a prediction over several cells",
}


def build_images(run: Run, files: FileIndex | None, n_each: int) -> Node:
    """Build the section with the worst and the best images as overlays.

    Parameters
    ----------
    run : Run
        Chooses the images.
    files : FileIndex or None
        None gives a line that says what is missing.
    n_each : int
        How many of the worst, and of the best.

    Returns
    -------
    Element
        The section. Pictures that cannot be drawn are named in it with the reason.
    """
    title = "Images"
    if files is None:
        said = "No pictures: give --data DIR (or -g LABELS and --images DIR) and -s PREDICTIONS."
        return section("images", title, absent(said))
    drawn: list[tuple[Example, Overlay]] = []
    left_out: list[tuple[str, str]] = []
    for example in choose_examples(run, n_each):
        try:
            found = files.find(example.image)
            drawn.append((example, draw_example(example, found, run, f"x{len(drawn)}")))
        except (ImageError, ValueError, OSError) as error:
            key = example.image.key.lstrip("/")
            logger.warning("%s: not shown: %s", key, error)
            left_out.append((key, str(error)))
    missing = _list_left_out(left_out)
    if not drawn:
        return section("images", title, absent("No picture could be drawn."), missing)
    n_worst = sum(example.is_worst for example, _ in drawn)
    lead = (
        f"The {n_worst} worst and {len(drawn) - n_worst} best images by F1, at most three of a "
        "data set where others are left. Images without a prediction or without cells are left out."
    )
    return section(
        "images",
        title,
        paragraph(lead),
        paragraph(HELP, "small screen"),
        _build_viewer(drawn),
        missing,
    )


def _build_viewer(drawn: Sequence[tuple[Example, Overlay]]) -> Node:
    """Put controls, list and slides together."""
    boxes = [
        element(
            "label",
            {"class": f"switch is-{layer}"},
            element("input", {"type": "checkbox", "id": f"layer-{layer}", "checked": "checked"}),
            _sample(layer),
            name,
        )
        for layer, name in LAYERS
    ]
    steps = element(
        "div",
        {"class": "steps"},
        element("button", {"type": "button", "id": "previous"}, "← Previous"),
        element("output", {"id": "position", "aria-live": "polite"}, f"1 of {len(drawn)}"),
        element("button", {"type": "button", "id": "next"}, "Next →"),
    )
    slides = [_build_slide(i, *pair, len(drawn)) for i, pair in enumerate(drawn)]
    return element(
        "div",
        {"class": "viewer", "id": "viewer", "role": "group", "aria-label": "Images with outlines"},
        element(
            "div",
            {"class": "controls"},
            element("fieldset", {}, element("legend", {}, "Layers"), *boxes),
            steps,
        ),
        _build_legend(),
        element(
            "div",
            {"class": "stage"},
            _build_list(drawn),
            element("div", {"class": "slides"}, *slides),
        ),
    )


def _build_legend() -> Node:
    """Explain how errors are filled."""
    return element(
        "ul",
        {"class": "kinds", "aria-label": "Fills of the layer of errors"},
        *(element("li", {}, _swatch(kind), meaning) for kind, meaning in MEANINGS.items()),
    )


def _build_list(drawn: Sequence[tuple[Example, Overlay]]) -> Node:
    """List the images with their F1, as links to the slides."""
    groups: list[Content] = []
    for is_worst, name in ((True, "Worst"), (False, "Best")):
        items = [
            element(
                "li",
                {},
                element(
                    "a",
                    {"href": f"#slide-{i}", "title": example.image.key.lstrip("/")},
                    element("b", {}, format_number(example.f1, 2)),
                    element("span", {}, example.image.name),
                ),
            )
            for i, (example, _) in enumerate(drawn)
            if example.is_worst == is_worst
        ]
        if items:
            groups += [element("h3", {}, name), element("ol", {}, *items)]
    return element("nav", {"class": "list", "aria-label": "Images shown"}, *groups)


def _build_slide(number: int, example: Example, overlay: Overlay, n: int) -> Node:
    """Build one image with its caption."""
    image = example.image
    group = " / ".join(word for word in (name_modality(image), image.dataset) if word)
    y0, x0, y1, x1 = overlay.box
    size = f"{overlay.shape[0]} by {overlay.shape[1]} px"
    if not overlay.is_whole:
        size = f"{y1 - y0} by {x1 - x0} px at row {y0}, column {x0} of {size}"
    kind = "worst" if example.is_worst else "best"
    return element(
        "figure",
        {
            "class": "slide",
            "id": f"slide-{number}",
            "tabindex": "-1",
            "data-name": f"{number + 1} of {n}, {kind}: {image.name}, F1 {example.f1:.3f}",
        },
        element(
            "figcaption",
            {},
            element("b", {"class": "score"}, f"F1 {example.f1:.3f}"),
            element("span", {"class": "name"}, image.name),
            element("span", {"class": "small"}, f"{group} · {size}"),
        ),
        overlay.drawing,
        _count_kinds(overlay.counts),
    )


def _count_kinds(counts: Mapping[str, int]) -> Node:
    """Say how many cells of each kind the whole image has."""
    items = [
        element("li", {}, _swatch(kind), f"{format_number(counts[kind], 0)} {kind}")
        for _, kind in FILLS
        if counts[kind]
    ]
    return element("ul", {"class": "counts"}, *items)


def _swatch(kind: str) -> Node:
    """Show how a kind is filled."""
    return element("span", {"class": f"swatch {kind}", "aria-hidden": "true"})


def _sample(layer: str) -> Node | None:
    """Show how an outline is drawn."""
    if layer not in ("true", "pred"):
        return None
    line = {"x1": 1, "y1": 5, "x2": 25, "y2": 5}
    return element(
        "svg",
        {"class": "sample", "viewBox": "0 0 26 10", "aria-hidden": "true"},
        element("line", {"class": "halo", **line}),
        element("line", {"class": f"line {layer}", **line}),
    )


def _list_left_out(left_out: Sequence[tuple[str, str]]) -> Node | None:
    """Name the images that are not shown, and why."""
    if not left_out:
        return None
    items = [element("li", {}, element("b", {}, name), f": {reason}") for name, reason in left_out]
    lead = paragraph(f"{len(left_out)} chosen images are not shown:")
    return element("div", {"class": "absent"}, lead, element("ul", {"class": "problems"}, *items))
