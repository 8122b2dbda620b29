"""Scores: matching, the organisers' F1, tables per modality; prediction never imports it."""
