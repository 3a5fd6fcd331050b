"""Lossless coding."""
