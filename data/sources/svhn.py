"""SVHN, through torchvision."""

import logging
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from filelock import FileLock
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from data.files.download import download
from data.image_set import ImageSet, TensorImages

logger = logging.getLogger(__name__)

NAMES = tuple("0123456789")


class SVHN:
    """73,257 training and 26,032 test photographs of house numbers, (3, 32, 32), ten classes (Netzer et al. 2011).

    Args:
        root: the files are in root/SVHN.
        extra: whether to train on the 531,131 easier images, too.
    """

    def __init__(self, root: str, extra: bool = False) -> None:
        self.root = Path(root).expanduser() / "SVHN"
        self.train_splits = ["train", "extra"] if extra else ["train"]
        self.num_images = 73_257 + (531_131 if extra else 0)

    def prepare(self) -> None:
        """Fetch the files that are missing or incomplete.

        Raises:
            ModuleNotFoundError: if scipy, which reads the files, is missing.
            RuntimeError: if the files cannot be downloaded; the message says which files to put where.
        """
        if find_spec("scipy") is None:
            raise ModuleNotFoundError("the files of SVHN are read by scipy, which is missing: run pip install scipy")
        if not self._damaged():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "prepare.lock"):
            for split in self._damaged():
                self._fetch(split)

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        if damaged := self._damaged():
            raise FileNotFoundError(f"{self.root} lacks whole files of {', '.join(damaged)}: run prepare() first")
        return self._read(self.train_splits), self._read(["test"])

    def _damaged(self) -> list[str]:
        """Return the splits whose file is missing or has another checksum."""
        files = {split: datasets.SVHN.split_list[split] for split in (*self.train_splits, "test")}
        return [split for split, (_, name, md5) in files.items() if not check_integrity(self.root / name, md5)]

    def _fetch(self, split: str) -> None:
        url, name, md5 = datasets.SVHN.split_list[split]
        try:
            download(partial(datasets.SVHN, split=split), url, self.root)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"SVHN is out of reach ({error}): put {name} (md5 {md5}) from {url} into {self.root} by hand"
            ) from error
        logger.info("%s was fetched into %s", name, self.root)

    def _read(self, splits: list[str]) -> TensorImages:
        parts = [datasets.SVHN(self.root, split) for split in splits]
        images = torch.cat([torch.from_numpy(part.data).contiguous() for part in parts])
        labels = torch.cat([torch.from_numpy(part.labels) for part in parts])
        return TensorImages(images, labels, class_names=NAMES)
