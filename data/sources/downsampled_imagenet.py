"""ImageNet at 32x32 or 64x64, from the npz batches of Chrabaszcz et al., which are memory-mapped."""

import logging
import shutil
import zlib
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from data.image_set import Batch, ImageSet

logger = logging.getLogger(__name__)


class DownsampledImageNet:
    """1,281,167 training and 50,000 test photographs, (3, S, S), 1,000 classes (arXiv:1707.08819).

    The test images are ImageNet's validation images. The papers of RealNVP and Glow report on another version (van den
    Oord et al. 2016, arXiv:1601.06759). It has 1,281,149 and 49,999 PNG files, which were scaled down in another way.
    Bits/dim of the two versions cannot be compared. `ImageFolder` reads the other version.

    Args:
        root: the folder of `train_data_batch_1.npz`, `_2.npz` and so on (ten files in the distribution) and of
            `val_data.npz`.
        size: S, 32 or 64.
    """

    num_images = 1_281_167

    def __init__(self, root: str, size: int) -> None:
        self.root = Path(root).expanduser()
        self.size = size

    def prepare(self) -> None:
        """Check the files, and unpack compressed files into root/unpacked, once. Only uncompressed files can be mapped.

        Raises:
            FileNotFoundError: if files are missing.
            ValueError: if a file is damaged or holds something else.
        """
        train_files = self._train_files()
        for path in [*train_files, self.root / "val_data.npz"]:
            if find_member(path) is None:
                unpack(path)
        train, test = self.load()
        logger.info(
            "%s: %d images in %d files to train, %d to test", self.root, len(train), len(train_files), len(test)
        )

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: as in `prepare`.
            ValueError: as in `prepare`.
        """
        return MappedBatches(self._train_files(), self.size), MappedBatches([self.root / "val_data.npz"], self.size)

    def _train_files(self) -> list[Path]:
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no folder {self.root}: put the npz files of downsampled ImageNet there")
        found = {path.stem.removeprefix("train_data_batch_"): path for path in self.root.glob("train_data_batch_*.npz")}
        numbered = {int(number): path for number, path in found.items() if number.isdecimal()}
        expected = range(1, max(numbered, default=1) + 1)
        missing = [f"train_data_batch_{number}.npz" for number in expected if number not in numbered]
        missing += [] if (self.root / "val_data.npz").is_file() else ["val_data.npz"]
        if missing:
            raise FileNotFoundError(
                f"{self.root} lacks {', '.join(missing)}: put the files of downsampled ImageNet there, from "
                "https://image-net.org/download-images"
            )
        return [numbered[number] for number in sorted(numbered)]


class MappedBatches(ImageSet):
    """Memory-mapped npz files of images: images are read from the disk when they are needed.

    Args:
        paths: the files, each with `data` uint8 `(N, 3 * size * size)` in the order C, H, W and `labels` from 1 on.
        size: side of an image, in pixels.

    Raises:
        ValueError: if a file is damaged or holds something else.
    """

    def __init__(self, paths: list[Path], size: int) -> None:
        self.size = size
        self.places = [find_member(path) or (unpacked(path), 0) for path in paths]
        labels = []
        for path, place in zip(paths, self.places, strict=True):
            images, batch_labels = map_array(*place), read_labels(path)
            width = images.shape[1] if images.ndim == 2 else 0
            for other in {32, 64} - {size}:
                if width == 3 * other * other:
                    raise ValueError(
                        f"{path} holds {other}x{other} images, not {size}x{size}: use data=imagenet{other}, or put the "
                        f"{size}x{size} ones there"
                    )
            if images.dtype != np.uint8 or width != 3 * size * size or len(images) != len(batch_labels):
                raise ValueError(
                    f"{path} holds {images.dtype} {images.shape} and {len(batch_labels)} labels, where {size}x{size} "
                    f"images are uint8 (N, {3 * size * size}) and have N labels: fetch it again"
                )
            labels.append(batch_labels - 1)
        self.ends = np.cumsum([len(part) for part in labels])
        self.labels = torch.cat(labels)
        self._maps: list[NDArray[np.uint8]] = []

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return 3, self.size, self.size

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the maps. Another process opens its own maps."""
        return {**self.__dict__, "_maps": []}

    def __getitem__(self, rows: list[int]) -> Batch:
        if not self._maps:
            self._maps = [map_array(*place) for place in self.places]
        index = torch.tensor(rows, dtype=torch.long)
        images = np.empty((len(rows), 3 * self.size * self.size), dtype=np.uint8)
        for place, row in enumerate(rows):
            number = int(np.searchsorted(self.ends, row, side="right"))
            images[place] = self._maps[number][row - self.ends[number]]  # negative: from the end of the file
        return Batch(torch.from_numpy(images).view(-1, *self.image_shape), self.labels[index], index)


def find_member(path: Path) -> tuple[Path, int] | None:
    """Return the file and the offset of the array `data` in an npz file, or None if the array is compressed.

    Raises:
        ValueError: if it is not a complete npz file with this array.
    """
    try:
        with ZipFile(path) as archive:
            info = archive.getinfo("data.npy")
            archive.getinfo("labels.npy")
            if info.compress_type != ZIP_STORED:
                return None
            with archive.open(info):
                pass  # checks that the member begins where the zip directory says
    except (BadZipFile, KeyError, OSError) as error:
        raise ValueError(f"{path} is damaged or no batch of downsampled ImageNet ({error}): fetch it again") from error
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
    return path, info.header_offset + 30 + name_length + extra_length


def map_array(path: Path, offset: int) -> NDArray[np.uint8]:
    """Map the array that starts at an offset of a file, in the npy format."""
    with path.open("rb") as file:
        file.seek(offset)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")


def read_labels(path: Path) -> Tensor:
    """Return the labels of an npz file, unchanged: int64 `(N,)`."""
    with np.load(path) as archive:
        return torch.as_tensor(np.asarray(archive["labels"]), dtype=torch.long)


def unpacked(path: Path) -> Path:
    """Return the path for the unpacked array of a compressed npz file. If the content changes, the path changes."""
    with ZipFile(path) as archive:
        checksum = archive.getinfo("data.npy").CRC
    return path.parent / "unpacked" / f"{path.stem}.{checksum:08x}.npy"


def unpack(path: Path) -> None:
    """Unpack the array `data` of a compressed npz file, unless this was done before.

    Raises:
        ValueError: if the file is damaged.
    """
    target = unpacked(path)
    if target.exists():
        return
    target.parent.mkdir(exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.exists():
            return
        partial = target.with_suffix(".partial")
        try:
            with ZipFile(path) as archive, archive.open("data.npy") as source, partial.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 24)
        except (BadZipFile, EOFError, zlib.error) as error:
            partial.unlink()
            raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
        partial.replace(target)
        for other in target.parent.glob(f"{path.stem}.*npy"):  # of earlier contents of the file
            if other != target:
                other.unlink()
