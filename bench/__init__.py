"""Speed and memory, measured: every module here is a program that writes JSON."""
