"""The three networks with their targets and decoding, and the registry of experts."""
