"""How good samples look, measured in features of images."""
