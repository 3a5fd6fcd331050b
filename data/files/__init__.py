"""Files: finding, downloading, unpacking and decoding them."""
