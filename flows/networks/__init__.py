"""Networks that steer bijections; they need not be invertible."""
