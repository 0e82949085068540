"""Pillow: the pixels out of band."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

trusted = frozenset({"jupyter_gpu.sync.codecs.images:load_image", "PIL.Image:Image"})


def route_of(kind: type, pickler: Pickler) -> Route | None:
    return _reduce_image if kind is getattr(sys.modules.get("PIL.Image"), "Image", None) else None


def _reduce_image(_: Pickler, image: Any) -> Any:
    state = image.__getstate__()
    if not isinstance(state, (list, tuple)) or not state or type(state[-1]) is not bytes:
        return NotImplemented
    return load_image, (list(state[:-1]), pickle.PickleBuffer(state[-1]))


def load_image(state: list[Any], data: Any) -> Any:
    from PIL import Image

    image = Image.Image()
    image.__setstate__([*state, bytes(data)])
    return image
