"""JSON that every program can read."""

import json
import math
from typing import Any


def to_json(value: Any) -> str:
    """Return JSON, with null in place of the numbers that JSON does not have: NaN and the infinities."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value
