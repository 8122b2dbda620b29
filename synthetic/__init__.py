"""Synthetic microscope images of every modality, with exact labels, for tests and benchmarks."""

from synthetic.generator import KINDS, SyntheticImage, make_image

__all__ = ["KINDS", "SyntheticImage", "make_image"]
