"""Arrays as the page reads them: raw bytes in base64, inside JSON."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np


def encoded(array: np.ndarray) -> dict[str, Any]:
    """The array's type, shape and bytes, the last axis first to run; little-endian."""
    dtype = array.dtype.newbyteorder("<")
    data = np.ascontiguousarray(array, dtype)
    return {
        "type": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(data.tobytes()).decode("ascii"),
    }
