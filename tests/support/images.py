"""Making image files and telling images apart."""

from pathlib import Path

from PIL import Image

from data import ImageSet


def save(image: Image.Image, path: Path, **options: object) -> None:
    """Save an image, making the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def levels(images: ImageSet) -> list[int]:
    """Return the grey level of each image's first pixel."""
    return [int(level) for level in images[list(range(len(images)))].images[:, 0, 0, 0]]
