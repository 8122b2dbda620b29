"""Cut merged objects at their waists: a watershed of the depth inside each object.

The watershed is one of pointers: every pixel looks at its highest neighbour, which leads it to
a peak; peaks that do not rise enough above the pass to a higher one give themselves up to it.
All pixels and all peaks move at once.
"""

from dataclasses import dataclass

from models.arrays import Array, Arrays, arrays_for

# A waist parts an object when both sides are deeper than it by this share of the object's depth,
# and by this many pixels at least; the best of about ten variants on 60
# validation images (mean F1 0.768 without, 0.785 with).
WAIST_SHARE, WAIST_PX = 0.2, 1.0
STRAIGHT, ALL_NEIGHBOURS = ((0, 1), (1, 0)), ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class Surface:
    """The pixels of some objects and their heights.

    Attributes
    ----------
    pixels : (P,) array of int64
        Flat indices, ascending.
    height : (P,) array of float32
    pairs : tuple of two (E,) arrays of int64
        Positions in ``pixels`` of 8-neighbours in the same object.
    straight : tuple of two arrays of int64
        Those of 4-neighbours.
    """

    pixels: Array
    height: Array
    pairs: tuple[Array, Array]
    straight: tuple[Array, Array]


def split_at_waists(seeds: Array) -> Array:
    """Cut objects at their waists.

    Parameters
    ----------
    seeds : (Y, X) ndarray or tensor of int32
        Objects with ids 1..N, 0 is background; no two share a pixel's side.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps, parts of an object in turn; every pixel of an object stays in some
        part of it.

    Notes
    -----
    Depth is the distance to the outside over the object's own waist threshold, so that large
    cells need deeper waists (CDNet's optional watershed normalises by object too). Parts are
    those of a watershed from the peaks that rise by 1 above the highest pass to a higher peak
    (h-maxima).
    """
    arrays = arrays_for(seeds)
    inside = seeds > 0
    ids = arrays.cast(seeds, "int64")
    depth = arrays.smooth(arrays.depth(inside))
    is_peak = (depth == arrays.dilate(depth, 3)) & inside
    n_peaks = arrays.bincount(ids.reshape(-1)[arrays.nonzero(is_peak)], int(ids.max()) + 1)
    several = n_peaks > 1  # all others have no waist
    pixels = arrays.nonzero(several[ids])
    if len(pixels) == 0:
        return seeds
    owner = ids.reshape(-1)[pixels]
    deep = depth.reshape(-1)[pixels]
    limit = WAIST_SHARE * arrays.highest(owner, deep, len(n_peaks))
    limit = arrays.where(limit > WAIST_PX, limit, WAIST_PX)
    surface = _survey(arrays, seeds, pixels, deep / arrays.cast(limit, "float32")[owner])
    peak = _merge_low_peaks(arrays, surface, _climb(arrays, surface))
    return _number_parts(arrays, ids, pixels, peak)


def _survey(arrays: Arrays, seeds: Array, pixels: Array, height: Array) -> Surface:
    """Find which of the pixels are neighbours in the same object."""
    rows, width = seeds.shape
    flat = seeds.reshape(-1)
    position = arrays.zeros(rows * width, like=pixels)
    position[pixels] = arrays.arange(len(pixels))
    y, x = pixels // width, pixels % width

    def neighbours(dy: int, dx: int) -> tuple[Array, Array]:
        within = (y + dy < rows) & (x + dx < width) & (x + dx >= 0)
        one = arrays.nonzero(within)
        other = pixels[one] + dy * width + dx
        same = flat[other] == flat[pixels[one]]
        return one[same], position[other[same]]

    pairs = [neighbours(dy, dx) for dy, dx in ALL_NEIGHBOURS]
    ones, others = (arrays.join([pair[i] for pair in pairs]) for i in (0, 1))
    n_straight = sum(len(pairs[i][0]) for i in range(len(STRAIGHT)))
    return Surface(pixels, height, (ones, others), (ones[:n_straight], others[:n_straight]))


def _climb(arrays: Arrays, surface: Surface) -> Array:
    """Lead each pixel to its peak: to the highest 4-neighbour, and so on; of equals, the last."""
    n = len(surface.pixels)
    # a pixel's place in the order of heights is a height without ties
    place = arrays.zeros(n, like=surface.pixels)
    in_order = arrays.order(surface.height)
    place[in_order] = arrays.arange(n)
    one, other = surface.straight
    ends = arrays.join([one, other, arrays.arange(n)])
    looks = arrays.join([place[other], place[one], place])
    return _follow(in_order[arrays.highest(ends, looks, n)])


def _follow(target: Array) -> Array:
    """Follow pointers (P,) until they end on themselves."""
    further = target[target]
    while bool((further != target).any()):
        target, further = further, further[further]
    return target


def _merge_low_peaks(arrays: Arrays, surface: Surface, peak: Array) -> Array:
    """Give pixels of a peak that rises by less than 1 above its highest pass to the peak there.

    ``peak`` (P,) holds positions of peaks. A peak goes over its own highest pass, and only to a
    higher peak; rounds are as many as merges follow from one another.
    """
    n = len(surface.pixels)
    one, other = surface.pairs
    height = surface.height
    level = arrays.where(height[one] < height[other], height[one], height[other])
    rank = arrays.zeros(n, like=surface.pixels)
    rank[arrays.order(height)] = arrays.arange(n)
    while True:
        crosses = peak[one] != peak[other]
        one, other, level = one[crosses], other[crosses], level[crosses]
        if len(one) == 0:
            return peak
        side, beyond = arrays.join([peak[one], peak[other]]), arrays.join([peak[other], peak[one]])
        both = arrays.join([level, level])
        highest_pass = arrays.highest(side, both, n)
        best = both == highest_pass[side]
        # of equal passes the one to the highest peak
        goal = arrays.highest(side[best], rank[beyond[best]], n)
        low = arrays.nonzero((goal > rank) & (height - highest_pass < 1.0))
        if len(low) == 0:
            return peak
        target = arrays.arange(n)
        target[low] = arrays.order(rank)[goal[low]]
        peak = _follow(target)[peak]


def _number_parts(arrays: Arrays, ids: Array, pixels: Array, peak: Array) -> Array:
    """Give new ids to objects (Y, X), and to each peak of those that were looked at."""
    n = int(ids.max())
    first = arrays.lowest(peak, arrays.arange(len(pixels)), len(pixels))
    is_part = arrays.zeros(len(pixels), like=pixels == 0)
    is_part[peak] = True
    part = arrays.nonzero(is_part)
    # the order of parts is that of objects, and in an object of first pixels
    owner = ids.reshape(-1)[pixels]
    part = part[arrays.order(first[part])]
    part = part[arrays.order(owner[part])]
    n_parts = arrays.bincount(owner[part], n + 1)
    n_parts = arrays.where(n_parts > 0, n_parts, 1)
    n_parts[0] = 0
    start = arrays.cumsum(n_parts) - n_parts + 1
    start[0] = 0
    number = arrays.zeros(len(pixels), like=pixels)
    number[part] = arrays.arange(len(part))
    before = arrays.lowest(owner[part], number[part], n + 1)
    labels = start[ids]
    labels.reshape(-1)[pixels] = start[owner] + (number[peak] - before[owner])
    return arrays.cast(labels, "int32")
