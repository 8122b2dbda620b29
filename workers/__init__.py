"""Spread images and blocks over processes and machines; imported only when that is asked for."""
