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
"""Formats that are recognised by the first bytes of a file.

EPS and PDF are not in this list, because Pillow needs other programs to draw them. Formats that Pillow only recognises
(WMF, EMF, BUFR, GRIB, HDF5, MPEG), or that contain files of other formats (IPTC), are not in it, either.
"""
UNMARKED = ("DIB", "GBR", "IM", "MCIDAS", "SPIDER", "TGA")
"""Formats whose first bytes do not show the format reliably. Only files with the name of an image are read as these."""
NO_IMAGE_ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos"),
    *(".nef", ".nrw", ".pef", ".raw", ".rwl", ".sr2", ".srf", ".srw", ".thm"),
    *("~", ".bak", ".orig", ".part", ".tmp"),
)
"""Endings of raw photographs, and of copies that editors and downloads leave.

Of a raw photograph, Pillow would read only the small preview. Often a JPEG of the same picture is beside it.
"""


FAULTS_OF_THE_MACHINE = (EIO, ESTALE, ETIMEDOUT, ENOTCONN, EMFILE, ENFILE, ENOMEM)
"""Numbers of errors that come from the disk, the network or the process. Damaged files cause other errors."""


class NotAnImageError(ValueError):
    """A file that no decoder opens."""


@cache
def endings() -> frozenset[str]:
    """Return the endings of the names of images. (For this, Pillow loads its decoders.)"""
    kinds = {*FORMATS, *UNMARKED, "MPO"}  # the last is a JPEG of several frames
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in kinds)


def is_named_like_an_image(path: Path) -> bool:
    """Return whether a file has the ending of an image."""
    return path.suffix.lower() in endings()


def is_fault_of_the_machine(error: Exception) -> bool:
    """Return whether the machine caused the error, so that the file that could not be read may be good."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE)


def open_image(file: BinaryIO, path: Path) -> ImageFile:
    """Return an image whose size is known and whose pixels are not decoded yet.

    This works like `PIL.Image.open`, but without Pillow's limit on the size, which holds for the whole process.

    Args:
        file: the content.
        path: the name of the file.

    Raises:
        NotAnImageError: if no decoder opens the file; the message has no subject.
        OSError: if the disk or the network fails.
        MemoryError: if memory is short.
        DecompressionBombError: if the format is one for which Pillow always has a limit, and the image is larger.
    """
    if path.name.lower().endswith(NO_IMAGE_ENDINGS):
        raise NotAnImageError("is a raw photograph or a spare copy, by its name")
    prefix = file.read(16)
    reason = "is no image of a kind that Pillow reads by itself"
    for kind in (*FORMATS, *UNMARKED) if is_named_like_an_image(path) else FORMATS:
        if kind not in Image.OPEN:  # Pillow may be built without this format
            continue
        factory, accept = Image.OPEN[kind]
        if accept is not None and accept(prefix) is not True:
            continue
        file.seek(0)
        try:
            return (JpegImageFile if kind == "JPEG" else factory)(file, "")  # of several frames, this is the first
        except Image.DecompressionBombError:
            raise
        except Exception as error:  # decoders raise errors of any kind
            if is_fault_of_the_machine(error):
                raise
            if accept is not None and kind in FORMATS:
                reason = f"cannot be decoded as {kind}: {str(error) or type(error).__name__}"
    raise NotAnImageError(reason)
