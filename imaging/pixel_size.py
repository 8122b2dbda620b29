"""The size of a TIFF's pixels, from the many places in which microscopes write it."""

import contextlib
import math
import re
from typing import Any
from xml.etree import ElementTree as ET

import tifffile

UM_PER_UNIT = {
    "": 1.0,  # OME's default
    "nm": 1e-3,
    "nanometer": 1e-3,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "\\u00b5m": 1.0,  # as ImageJ escapes it
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 25400.0,
}
MAX_PLAIN_MPP = 10.0  # coarser resolution tags speak of print: 2540 dots an inch and fewer
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}  # TIFF tag 296


def read_mpp(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    """Read the size of the pixels of a TIFF's full resolution.

    Parameters
    ----------
    tif : tifffile.TiffFile
        The file.
    page : tifffile.TiffPage
        First page of the full resolution.

    Returns
    -------
    float or None
        Micrometres a pixel, the geometric mean of both directions. From OME-XML, Aperio's or
        Philips's description, ImageJ's unit, or the resolution tags: Hamamatsu's are trusted,
        others only if they say at most :data:`MAX_PLAIN_MPP`, as many programs fill in the
        resolution of a screen or printer. None if nothing of this is there.
    """
    sizes: tuple[float, float] | None = None
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, SyntaxError):
        if tif.is_ome:
            sizes = _ome_sizes(tif.ome_metadata or "")
        elif tif.is_svs:
            sizes = _aperio_sizes(page.description)
        elif tif.is_philips:
            sizes = _philips_sizes(tif.philips_metadata or "")
        elif tif.is_imagej:
            unit = str((tif.imagej_metadata or {}).get("unit", "none"))
            sizes = _tag_sizes(page, UM_PER_UNIT[unit.lower()])
        else:
            sizes = _resolution_sizes(tif, page)
    if sizes is None or not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    return math.sqrt(sizes[0] * sizes[1])


def _ome_sizes(xml: str) -> tuple[float, float] | None:
    """Sizes of the first image of an OME-XML; one direction stands for both if it is alone."""
    for element in ET.fromstring(xml).iter():
        if element.tag.endswith("}Pixels") or element.tag == "Pixels":
            sizes = [
                float(element.attrib[f"PhysicalSize{axis}"])
                * UM_PER_UNIT[element.attrib.get(f"PhysicalSize{axis}Unit", "").lower()]
                for axis in "YX"
                if f"PhysicalSize{axis}" in element.attrib
            ]
            return (sizes[0], sizes[-1]) if sizes else None
    return None


def _aperio_sizes(description: str) -> tuple[float, float] | None:
    """Size in an Aperio description: ``...|AppMag = 20|MPP = 0.4990|...``."""
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)", description)
    return (float(found[1]), float(found[1])) if found else None


def _philips_sizes(xml: str) -> tuple[float, float] | None:
    """Sizes of the finest pixels in Philips's XML, which gives millimetres."""
    for element in ET.fromstring(xml).iter("Attribute"):
        if element.attrib.get("Name") == "DICOM_PIXEL_SPACING" and element.text:
            sizes = [1e3 * float(text) for text in element.text.replace('"', "").split()]
            return sizes[0], sizes[-1]
    return None


def _resolution_sizes(
    tif: tifffile.TiffFile, page: tifffile.TiffPage
) -> tuple[float, float] | None:
    """Sizes from the resolution tags, if they speak of a microscope."""
    unit: Any = page.tags.valueof(296, default=2)
    sizes = _tag_sizes(page, _UM_PER_RESOLUTION_UNIT[int(unit)])
    if sizes is None or (max(sizes) > MAX_PLAIN_MPP and not tif.is_ndpi):
        return None
    return sizes


def _tag_sizes(page: tifffile.TiffPage, um_per_unit: float) -> tuple[float, float] | None:
    """Sizes from the tags of pixels a unit, given how long a unit is."""
    sizes = []
    for code in (283, 282):  # y, x
        pixels, units = page.tags.valueof(code, default=(0, 1))
        if not pixels or not units:
            return None
        sizes.append(um_per_unit * units / pixels)
    return sizes[0], sizes[1]
