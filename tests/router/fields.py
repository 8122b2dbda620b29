"""Tiny images that look like one modality each, and a data folder of them."""

import numpy as np
from PIL import Image as PillowImage

COLUMNS = (
    "image,label,modality,expert,dataset,split,height,width,channels,cells,"
    "median_diameter_px,annotated"
)
EXPERTS = {"phase": "cellpose_phase", "dic": "cellpose_dic", "fluorescence": "cdnet_fluorescence"}


def draw_field(kind, seed=0, shape=(60, 80)):
    """Draw uint8 (Y, X, C): blobs on a background, as bright and coloured as the kind has them."""
    rng = np.random.default_rng(seed)
    ground, cell, noise = {
        "fluorescence": ([10], [220], 4),
        "phase": ([110], [245], 12),
        "dic": ([128], [150], 25),
        "large": ([235, 225, 230], [150, 70, 160], 5),
        "small": ([225, 190, 140], [90, 60, 140], 5),
    }[kind]
    image = np.full((*shape, len(ground)), ground, float)
    for _ in range(4 if kind == "large" else 6):
        y, x = rng.integers(5, shape[0] - 5), rng.integers(5, shape[1] - 5)
        yy, xx = np.ogrid[: shape[0], : shape[1]]
        image[(yy - y) ** 2 + (xx - x) ** 2 < (120 if kind == "large" else 20)] = cell
    image += rng.normal(0, noise, shape)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def write_data(folder, n_each=6):
    """Write an index and images of every kind; the last of each is for testing."""
    rows, path = [COLUMNS], ""
    for kind in ("fluorescence", "phase", "dic", "large", "small"):
        modality = "brightfield" if kind in ("large", "small") else kind
        expert = EXPERTS.get(
            kind, "cellpose_brightfield" if kind == "large" else "unet_brightfield"
        )
        for i in range(n_each):
            split = "test" if i == n_each - 1 else "train"
            path = f"{modality}/{kind}_set/{split}/images/{kind}{'abcdefghij'[i]}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(draw_field(kind, seed=i).squeeze()).save(folder / path)
            rows.append(f"{path},{path},{modality},{expert},{kind}_set,{split},60,80,1,6,12.0,all")
    rows.append(f"{path},,qpi,,qpi_set,train,60,80,1,,,all")
    rows.append(f"{path},,,,new_set,unlabelled,60,80,1,,,none")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder
