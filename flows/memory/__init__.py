"""Training in memory that does not grow with depth, and gradients that are written by hand."""
