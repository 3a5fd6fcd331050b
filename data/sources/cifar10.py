"""CIFAR-10, through torchvision."""

import logging
from pathlib import Path

import torch
from filelock import FileLock
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, extract_archive

from data.files.download import download
from data.image_set import ImageSet, TensorImages

logger = logging.getLogger(__name__)


class CIFAR10:
    """50,000 training and 10,000 test photographs, (3, 32, 32), ten classes.

    Args:
        root: the files are where torchvision puts them, in root/cifar-10-batches-py.
    """

    num_images = 50_000

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()

    def prepare(self) -> None:
        """Unpack the archive if it is in root, else download it.

        Raises:
            RuntimeError: if the archive cannot be downloaded; the message says which file to put where.
        """
        if self._is_whole():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "cifar10.lock"):
            if not self._is_whole():
                self._fetch()

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        if not self._is_whole():
            raise FileNotFoundError(f"{self.root} lacks the files of CIFAR-10: run its prepare() first")
        return self._read(train=True), self._read(train=False)

    def _is_whole(self) -> bool:
        folder = self.root / datasets.CIFAR10.base_folder
        files = [*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list]
        files.append([datasets.CIFAR10.meta["filename"], datasets.CIFAR10.meta["md5"]])
        return all(check_integrity(folder / name, md5) for name, md5 in files)

    def _fetch(self) -> None:
        archive = self.root / datasets.CIFAR10.filename
        if check_integrity(archive, datasets.CIFAR10.tgz_md5):
            extract_archive(archive, self.root)
            return
        try:
            download(datasets.CIFAR10, datasets.CIFAR10.url, self.root)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"CIFAR-10 is out of reach: torchvision's mirror failed ({error}): put {archive.name} "
                f"(md5 {datasets.CIFAR10.tgz_md5}) from {datasets.CIFAR10.url} into {self.root} by hand"
            ) from error
        logger.info("CIFAR-10 was fetched from torchvision's mirror into %s", self.root)

    def _read(self, train: bool) -> TensorImages:
        cifar = datasets.CIFAR10(self.root, train=train)
        images = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous()
        return TensorImages(images, torch.tensor(cifar.targets), class_names=tuple(cifar.classes))
