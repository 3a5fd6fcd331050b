"""Devices, precision, ranks and SLURM."""
