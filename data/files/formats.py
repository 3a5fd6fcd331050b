"""Which files are images: every raster format that Pillow decodes by itself, whatever the name ends in."""

from errno import EIO, EMFILE, ENFILE, ENOMEM, ENOTCONN, ESTALE, ETIMEDOUT
from functools import cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "BLP", "CUR", "DCX", "DDS"),
    *("FITS", "FLI", "FTEX", "ICNS", "ICO", "MSP", "PCD", "PCX", "PIXAR", "PSD", "QOI", "SGI", "SUN"),
    *("XBM", "XPM", "XVTHUMB"),
)
"""Told by how the file begins. EPS and PDF are not among them, as other programs draw them, nor are files that Pillow
only names (WMF, EMF, BUFR, GRIB, HDF5, MPEG) or that hold files of any other kind (IPTC)."""
UNMARKED = ("DIB", "GBR", "IM", "MCIDAS", "SPIDER", "TGA")
"""What begins like these may well be something else: only files that are named like images are read as these."""
NO_IMAGE_ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos"),
    *(".nef", ".nrw", ".pef", ".raw", ".rwl", ".sr2", ".srf", ".srw", ".thm"),
    *("~", ".bak", ".orig", ".part", ".tmp"),
)
"""Raw photographs, of which Pillow would read the small preview, often beside a JPEG of the same picture; copies that
editors and downloads leave."""


FAULTS_OF_THE_MACHINE = (EIO, ESTALE, ETIMEDOUT, ENOTCONN, EMFILE, ENFILE, ENOMEM)
"""Numbers of errors that tell of the disk, the network or the process. Decoders of damaged files raise others."""


class NotAnImageError(ValueError):
    """A file that no decoder opens."""


@cache
def endings() -> frozenset[str]:
    """Return what the names of images end in. (Pillow loads its decoders to tell.)"""
    kinds = {*FORMATS, *UNMARKED, "MPO"}  # the last is a JPEG of several frames
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in kinds)


def is_named_like_an_image(path: Path) -> bool:
    """Return whether the name ends as those of images do."""
    return path.suffix.lower() in endings()


def is_fault_of_the_machine(error: Exception) -> bool:
    """Return whether a file that could not be read may be sound."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE)


def open_image(file: BinaryIO, path: Path) -> ImageFile:
    """Return an image whose size is known and whose pixels are not decoded yet.

    As `PIL.Image.open`, but for its limit on the size, which is the same for the whole process.

    Args:
        file: the content.
        path: its name.

    Raises:
        NotAnImageError: if no decoder opens the file; the message has no subject.
        OSError: if the disk or the network fails; MemoryError likewise.
        DecompressionBombError: if it is of a kind for which Pillow has a limit all the same, and larger.
    """
    if path.name.lower().endswith(NO_IMAGE_ENDINGS):
        raise NotAnImageError("is a raw photograph or a spare copy, by its name")
    prefix = file.read(16)
    reason = "is no image of a kind that Pillow reads by itself"
    for kind in (*FORMATS, *UNMARKED) if is_named_like_an_image(path) else FORMATS:
        if kind not in Image.OPEN:  # Pillow may be built without it
            continue
        factory, accept = Image.OPEN[kind]
        if accept is not None and accept(prefix) is not True:
            continue
        file.seek(0)
        try:
            return (JpegImageFile if kind == "JPEG" else factory)(file, "")  # the first frame of several
        except Image.DecompressionBombError:
            raise
        except Exception as error:  # decoders raise what they like
            if is_fault_of_the_machine(error):
                raise
            if accept is not None and kind in FORMATS:
                reason = f"cannot be decoded as {kind}: {str(error) or type(error).__name__}"
    raise NotAnImageError(reason)
