"""Thin entry points, one a stage: parse arguments, read, call, write."""
