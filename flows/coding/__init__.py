"""Lossless coding of images with a flow: the proof that its bits/dim are real (package `constriction`)."""

from flows.coding.cells import CodingError
from flows.coding.codec import Coded, ImageCodec
from flows.coding.stream import read_stream, write_stream

__all__ = ["Coded", "CodingError", "ImageCodec", "read_stream", "write_stream"]
