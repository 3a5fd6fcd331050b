"""Finding, downloading, unpacking and decoding files."""
