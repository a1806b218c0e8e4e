"""Encoded pictures, as logs hold them."""

from __future__ import annotations

import io

import numpy as np

from farstep.core.errors import FarstepError


def decoded(content: bytes, size: int | None, where: str, channels: int = 3) -> np.ndarray:
    """An encoded picture as (H, W, channels) bytes, scaled to a square with Lanczos' filter.

    Raises:
        FarstepError: it cannot be decoded.
    """
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FarstepError(f"{where}: the picture cannot be decoded ({error}).") from error
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None and picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(*picture.size[::-1], 1 if channels == 1 else 3)
