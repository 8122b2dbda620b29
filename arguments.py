"""Types of command-line arguments that several programs share; imports nothing heavy."""

import argparse
import math


def read_count(text: str) -> int:
    """Read a whole number of at least 1 (argparse.ArgumentTypeError, ValueError)."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def read_amount(text: str) -> float:
    """Read a length, a size or a time: finite and above 0 (as above)."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {number}")
    return number
