"""Images in, uint8 batches out: sources, their splits, and an order that can be resumed."""

from data.augment import Augment
from data.celeba import CelebA
from data.cifar10 import CIFAR10
from data.datamodule import ImageData
from data.digits import Digits
from data.downsampled_imagenet import DownsampledImageNet
from data.emoji import Emoji
from data.fashion_mnist import FashionMNIST
from data.image_folder import ImageFolder
from data.image_set import Batch, ImageSet, Source, Subset, TensorImages
from data.mnist import MNIST
from data.order import EvalOrder, ResumableLoader, TrainOrder
from data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "MNIST",
    "SVHN",
    "Augment",
    "Batch",
    "CelebA",
    "Digits",
    "DownsampledImageNet",
    "Emoji",
    "EvalOrder",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "ImageSet",
    "ResumableLoader",
    "Source",
    "Subset",
    "TensorImages",
    "TrainOrder",
]
