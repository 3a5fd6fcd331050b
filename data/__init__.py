"""From images to uint8 batches: sources of images, their splits, and an order that can be resumed."""

from data.augment import Augment
from data.change import Grey, Invert, Resize, Rotate, ShuffleTiles
from data.condition import Condition, Conditioned, Downsample
from data.datamodule import ImageData
from data.image_set import Batch, ImageSet, Source, Subset, TensorImages
from data.order import EvalOrder, ResumableLoader, TrainOrder
from data.sources.celeba import CelebA
from data.sources.changed import Changed
from data.sources.cifar10 import CIFAR10
from data.sources.digits import Digits
from data.sources.downsampled_imagenet import DownsampledImageNet
from data.sources.emoji import Emoji
from data.sources.fashion_mnist import FashionMNIST
from data.sources.generated import Generated
from data.sources.image_folder import ImageFolder
from data.sources.mnist import MNIST
from data.sources.photos import Photos
from data.sources.svhn import SVHN
from data.sources.without_content import Constant, Noise

__all__ = [
    "CIFAR10",
    "MNIST",
    "SVHN",
    "Augment",
    "Batch",
    "CelebA",
    "Changed",
    "Condition",
    "Conditioned",
    "Constant",
    "Digits",
    "Downsample",
    "DownsampledImageNet",
    "Emoji",
    "EvalOrder",
    "FashionMNIST",
    "Generated",
    "Grey",
    "ImageData",
    "ImageFolder",
    "ImageSet",
    "Invert",
    "Noise",
    "Photos",
    "Resize",
    "ResumableLoader",
    "Rotate",
    "ShuffleTiles",
    "Source",
    "Subset",
    "TensorImages",
    "TrainOrder",
]
