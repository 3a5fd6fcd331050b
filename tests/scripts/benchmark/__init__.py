"""Tests of the measurements in scripts/benchmark."""
