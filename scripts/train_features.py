"""Train the classifier of Fashion-MNIST whose features compare samples with real images.

Example:
    python scripts/train_features.py features.safetensors      # ten minutes on two CPU cores

The classifier is not trained on the images that runs set aside for validation. The weights that come with the project
were made in this way. They must never change, because distances in different features cannot be compared.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import Augment, FashionMNIST, ImageData
from flows.arguments import require_positive
from flows.training.command.explain import explain
from flows.training.quality.features import FashionMNISTFeatures
from scripts.classify import accuracy, batches, fit
from scripts.files.new_file import check_new_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says, test the classifier, and write the weights."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("DATA_ROOT", "./datasets"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="the largest; it rises and falls")
    told = parser.parse_args(arguments)
    try:
        require_positive(epochs=told.epochs)
        told.out.parent.mkdir(parents=True, exist_ok=True)
        check_new_file("FILE", str(told.out), ".safetensors")
        train(told.out, told.data_root, told.epochs, told.learning_rate)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {explain(error, 'train_features')}")


def train(out: Path, data_root: Path, epochs: int, learning_rate: float) -> None:
    """Train and test the classifier, and write its weights to `out`."""
    torch.manual_seed(0)
    augment = Augment(horizontal_flip=True, max_shift=2)
    source = FashionMNIST(str(data_root))
    data = ImageData(source=source, image_shape=(1, 28, 28), num_classes=10, batch_size=128, augment=augment)
    data.prepare_data()
    data.setup()
    network = FashionMNISTFeatures(weights=None)
    num_steps = epochs * (len(data.train_set) // data.batch_size)
    fit(network, batches(data, seed=0), num_steps, learning_rate)
    save_file(network.state_dict(), out)
    for name, loader in ("validation", data.val_dataloader()), ("test", data.test_dataloader()):
        print(f"{name} accuracy {accuracy(network, loader):.4f}")


if __name__ == "__main__":
    main()
