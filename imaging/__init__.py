"""Microscope images in, label images out: file formats, axes and bit depth end here."""
