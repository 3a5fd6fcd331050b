"""CelebA, through torchvision."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, extract_archive

from data.files.decode import check_shape, decode
from data.files.image_files import ImageFiles
from data.image_set import ImageSet

PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
TEST = 2
MD5S = {name: md5 for _, md5, name in datasets.CelebA.file_list}


class CelebA:
    """202,599 aligned photographs of faces, 178x218 (Liu et al. 2015), scaled to one shape; without labels.

    The test images are those of the official test partition. The others are for training and validation.

    Args:
        root: the files are where torchvision puts them, in root/celeba.
        image_shape: shape (C, H, W) of every image after scaling.
        crop: side of the central square that is cut out before scaling, in pixels (148: RealNVP, section 4.1).

    Raises:
        ValueError: if the shape or the crop is impossible.
    """

    num_images = 182_637

    def __init__(self, root: str, image_shape: Sequence[int] = (3, 64, 64), crop: int = 148) -> None:
        self.root = Path(root).expanduser()
        self.folder = self.root / datasets.CelebA.base_folder
        self.image_shape = check_shape(image_shape, crop)
        self.read = partial(decode, image_shape=self.image_shape, crop=crop)

    def prepare(self) -> None:
        """Unpack the archive if it is in root/celeba, else download it.

        Raises:
            RuntimeError: if the archive cannot be downloaded; the message says which files to put where.
        """
        if not self._missing():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "prepare.lock"):
            if self._missing():
                self._fetch()

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        if missing := self._missing():
            raise FileNotFoundError(f"{self.folder} lacks {missing}: run prepare() first")
        train: list[str] = []
        test: list[str] = []
        for name, partition in self._partition().items():
            (test if partition == TEST else train).append(name)
        return self._files(train), self._files(test)

    def _partition(self) -> dict[str, int]:
        """Return the partition of each image: 0 for training, 1 for validation, 2 for the test."""
        lines = (self.folder / PARTITION).read_text().splitlines()
        return {name: int(partition) for name, partition in map(str.split, lines)}

    def _missing(self) -> str:
        """Return what is missing; an empty text if nothing is missing."""
        if not check_integrity(self.folder / PARTITION, MD5S[PARTITION]):
            return f"a whole {PARTITION}"
        images = self.folder / IMAGES
        there = {path.name for path in images.iterdir()} if images.is_dir() else set()
        missing = sorted(self._partition().keys() - there)
        return f"{len(missing)} images, such as {IMAGES}/{missing[0]}" if missing else ""

    def _fetch(self) -> None:
        archive = self.folder / f"{IMAGES}.zip"
        partition = self.folder / PARTITION
        if not all(check_integrity(file, MD5S[file.name]) for file in (archive, partition)):
            try:
                datasets.CelebA(self.root, download=True)
                if not check_integrity(archive, MD5S[archive.name]) and (missing := self._missing()):
                    raise FileNotFoundError(f"torchvision takes the folder for whole, which lacks {missing}")
            except Exception as error:  # torchvision uses gdown, which raises its own errors
                reason = " ".join(str(error).split()).rstrip(".")
                raise RuntimeError(
                    f"CelebA is out of reach ({reason}): put {archive.name} (md5 {MD5S[archive.name]}) and "
                    f"{PARTITION} from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html into {self.folder} by hand"
                ) from error
        if self._missing():
            with TemporaryDirectory(dir=self.folder) as folder:
                extract_archive(archive, folder)
                (self.folder / IMAGES).mkdir(exist_ok=True)
                for image in (Path(folder) / IMAGES).iterdir():
                    image.replace(self.folder / IMAGES / image.name)

    def _files(self, paths: list[str]) -> ImageFiles:
        no_labels = torch.full((len(paths),), -1)
        return ImageFiles(self.folder / IMAGES, paths, no_labels, self.image_shape, self.read)
