"""Pillow's images: mode, size and bytes. Images that still know the file they came from are a plugin's, and refused."""

from __future__ import annotations

from typing import Any

from PIL import Image

from .entry import Entry, Table, are_ints, need

#: Mode -> bytes of a pixel.
_MODES = {
    "L": 1,
    "P": 1,
    "RGB": 3,
    "RGBA": 4,
    "CMYK": 4,
    "YCbCr": 3,
    "LAB": 3,
    "HSV": 3,
    "I": 4,
    "F": 4,
    "LA": 2,
    "PA": 2,
    "I;16": 2,
    "1": 0,
}
_INFO = (int, float, str, bytes, bool, type(None), tuple)


class _Before:
    """An image before its state came."""


def image_of(state: Any) -> Any:
    """[info, mode, size, palette, bytes]"""
    need(type(state) in (list, tuple) and len(state) == 5, "not the state of an image")
    info, mode, size, palette, data = state
    need(type(mode) is str and mode in _MODES and are_ints(size, 0) and len(size) == 2 and type(data) is bytes, "no mode, size and bytes")
    need(size[0] > 0 and size[1] > 0, "it has no pixels")
    pixels = size[1] * ((size[0] + 7) // 8) if mode == "1" else size[0] * size[1] * _MODES[mode]
    need(len(data) == pixels, "its bytes are not those of its size")
    need(type(info) is dict and all(type(k) is str and type(v) in _INFO for k, v in info.items()), "unknown details")
    image = Image.frombytes(mode, size, data)
    if palette and mode in ("L", "P"):
        need(type(palette) in (list, bytes) and len(palette) <= 1024, "no palette")
        image.putpalette(palette)
    image.info = info
    return image


TABLE: Table = {("PIL.Image", "Image"): Entry(new=_Before, fill=lambda _, state: image_of(state), must=True)}
