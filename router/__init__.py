"""Which modality an image has, and so which expert segments it: nearest K-Means centre."""
