"""Makes image files, and helps to tell images apart."""

from pathlib import Path

from PIL import Image

from data import ImageSet


def save(image: Image.Image, path: Path, **options: object) -> None:
    """Save an image. If folders above it are missing, make them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def levels(images: ImageSet) -> list[int]:
    """Return the grey level of each image's first pixel."""
    return [int(level) for level in images[list(range(len(images)))].images[:, 0, 0, 0]]
