"""Names of the core that `flows.training` also has."""

from flows.files import CheckpointError, peek
from flows.files import load as load_flow
from flows.files import save as save_flow
from flows.provenance import Provenance, check_class_names
from flows.valid_json import to_json

__all__ = ["CheckpointError", "Provenance", "check_class_names", "load_flow", "peek", "save_flow", "to_json"]
