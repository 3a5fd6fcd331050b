"""The handwritten digits of scikit-learn, which need no download."""

import torch

from data.image_set import ImageSet, TensorImages
from data.order import shuffled

NUM_TEST = 297
NAMES = tuple("0123456789")


class Digits:
    """1,500 training and 297 test images of handwritten digits, (1, 8, 8), ten classes.

    The 17 grey levels 0, 1, ..., 16 of the data set become 0, 15, ..., 240. The split is fixed.
    """

    num_images = 1_500

    def prepare(self) -> None:
        """Do nothing, because the images are part of scikit-learn."""

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            ModuleNotFoundError: if scikit-learn is missing.
        """
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the digits are a part of scikit-learn, which is missing: run pip install scikit-learn"
            ) from error
        values, targets = load_digits(return_X_y=True)
        images = torch.from_numpy(values * 15).to(torch.uint8).view(-1, 1, 8, 8)
        labels = torch.from_numpy(targets)
        rows = shuffled(len(images), "digits")
        test, train = (part.sort().values for part in (rows[:NUM_TEST], rows[NUM_TEST:]))
        train_set, test_set = (TensorImages(images[part], labels[part], class_names=NAMES) for part in (train, test))
        return train_set, test_set
