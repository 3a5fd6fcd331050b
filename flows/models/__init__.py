"""Whole models: their architecture, and how to build one from a name and plain values."""
