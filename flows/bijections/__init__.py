"""Invertible maps: layers of channels, couplings, masks, first layers, and their composition."""
