"""Train the classifier of Fashion-MNIST whose features compare samples with real images.

Example:
    python scripts/train_features.py features.safetensors      # ten minutes on two CPU cores

The classifier is not trained on the images that runs set aside for validation. The weights that come with the project
were made in this way. They must never change, because distances in different features cannot be compared.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from data import Augment, Batch, FashionMNIST, ImageData
from flows.training.quality.features import FashionMNISTFeatures


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says, test the classifier, and write the weights."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("DATA_ROOT", "./datasets"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="the largest; it rises and falls")
    told = parser.parse_args(arguments)
    torch.manual_seed(0)
    data = ImageData(source=FashionMNIST(str(told.data_root)), image_shape=(1, 28, 28), num_classes=10, batch_size=128)
    data.prepare_data()
    data.setup()
    network = FashionMNISTFeatures(weights=None)
    train(network, data, told.epochs, told.learning_rate)
    told.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), told.out)
    for name, loader in ("validation", data.val_dataloader()), ("test", data.test_dataloader()):
        print(f"{name} accuracy {accuracy(network, loader):.4f}")


def train(network: FashionMNISTFeatures, data: ImageData, num_epochs: int, learning_rate: float) -> None:
    """Train a new network, with flips and shifts."""
    loader = data.train_dataloader()
    augment = Augment(horizontal_flip=True, max_shift=2)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    num_steps = num_epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, num_steps)
    network.train()
    for epoch in range(num_epochs):
        told = track(loader, f"epoch {epoch + 1}", len(loader), console=Console(stderr=True), transient=True)
        for batch in told:
            batch = augment(batch, (28, 28), seed=0, step=schedule.last_epoch)
            loss = F.cross_entropy(network.head(network(batch.images)), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


@torch.no_grad()
def accuracy(network: FashionMNISTFeatures, loader: DataLoader[Batch]) -> float:
    """Return the part of the images whose class is recognised correctly."""
    right = [network.classify(network(batch.images)) == batch.labels for batch in loader]
    return torch.cat(right).double().mean().item()


if __name__ == "__main__":
    main()
