"""What an exact inverse is good for: changing images by changing their latents."""

from flows.edits.attribute import Attribute, attribute_between
from flows.edits.latents import load_latents, save_latents
from flows.edits.levels import resampled
from flows.edits.path import path_through
from flows.edits.turn import turned

__all__ = ["Attribute", "attribute_between", "load_latents", "path_through", "resampled", "save_latents", "turned"]
