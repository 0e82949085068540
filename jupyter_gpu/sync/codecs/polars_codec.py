"""polars: frames and series as Arrow's stream of records, out of band."""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

trusted = frozenset({"jupyter_gpu.sync.codecs.polars_codec:load_frame", "jupyter_gpu.sync.codecs.polars_codec:load_series"})


def route_of(kind: type, pickler: Pickler) -> Route | None:
    polars = sys.modules["polars"]
    if kind is polars.DataFrame:
        return _reduce_frame
    return _reduce_series if kind is polars.Series else None


def _reduce_frame(_: Pickler, frame: Any) -> Any:
    if not frame.width or _has_objects(frame):
        return NotImplemented
    return load_frame, (_records(frame),)


def _reduce_series(_: Pickler, series: Any) -> Any:
    frame = series.to_frame()
    return NotImplemented if _has_objects(frame) else (load_series, (_records(frame),))


def _has_objects(frame: Any) -> bool:
    polars = sys.modules["polars"]
    return any(dtype == polars.Object or (dtype.is_nested() and "Object" in str(dtype)) for dtype in frame.dtypes)


def _records(frame: Any) -> pickle.PickleBuffer:
    file = io.BytesIO()
    frame.write_ipc_stream(file, compat_level=sys.modules["polars"].CompatLevel.newest())
    return pickle.PickleBuffer(file.getbuffer())


def load_frame(data: Any) -> Any:
    import polars as pl

    return pl.read_ipc_stream(io.BytesIO(data), use_pyarrow=False)


def load_series(data: Any) -> Any:
    return load_frame(data).to_series()
