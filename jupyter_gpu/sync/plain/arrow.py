"""Arrow's arrays and tables, and polars' by way of these. Whatever memory a stream gives is validated in full, as Arrow does it for
bytes from strangers; the number of buffers is checked before, since a constructor takes it for granted."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from .entry import Entry, Table, are_ints, bounded, is_int, need

_ATOMS = (int, float, str, bytes, bool, type(None))


def _plain_or_type(value: Any) -> bool:
    return type(value) in _ATOMS or isinstance(value, (pa.DataType, pa.Field))


def _type(maker: Any) -> Entry:
    """Called with plain values, types and fields."""

    def make(*args: Any) -> Any:
        for arg in args:
            parts = arg if type(arg) is list else [arg]
            need(all(map(_plain_or_type, parts)) or _is_metadata(arg), "its arguments are no types")
            for part in parts if not _is_metadata(arg) else ():
                bounded(part, _types_in, "a type that is nested too deeply")
        return maker(*args)

    return Entry(make=make)


def _types_in(part: Any) -> list[Any]:
    if isinstance(part, pa.Field):
        return [part.type]
    if isinstance(part, pa.DictionaryType):
        return [part.value_type]
    return [part.field(i) for i in range(part.num_fields)] if isinstance(part, pa.DataType) else []


def _is_metadata(value: Any) -> bool:
    return type(value) is dict and all(type(k) in (str, bytes) and type(v) in (str, bytes) for k, v in value.items())


def _buffer(data: Any) -> Any:
    need(type(data) in (bytes, bytearray, memoryview), "its memory is no buffer")
    return pa.py_buffer(data)


def _check(data: Any, depth: int = 0) -> None:
    """(type, length, nulls, offset, buffers, children, dictionary[, statistics...])"""
    need(type(data) is tuple and len(data) == 7 and depth < 50, "not the parts of an array")
    kind, length, nulls, offset, buffers, children, dictionary = data
    need(isinstance(kind, pa.DataType) and not isinstance(kind, pa.BaseExtensionType), "no type of Arrow's own")
    need(are_ints((length, offset), 0) and is_int(nulls) and -1 <= nulls <= length, "no length")
    need("view" not in str(kind) and "union" not in str(kind) and "run_end" not in str(kind), "a layout that is not taken")
    need(type(buffers) is list and len(buffers) == kind.num_buffers, "another number of buffers than its type has")
    need(all(b is None or isinstance(b, pa.Buffer) for b in buffers), "memory that is no buffer")
    encoded = isinstance(kind, pa.DictionaryType)
    need((dictionary is not None) == encoded, "a dictionary where none is, or none where one is")
    need(type(children) is list and len(children) == (0 if encoded else kind.num_fields), "another number of children than its type has")
    for child in children:
        _check(child, depth + 1)
    if encoded:
        _check(dictionary, depth + 1)
        need(dictionary[0].equals(kind.value_type), "a dictionary of another type")
    for field, child in zip([] if encoded else [kind.field(i) for i in range(kind.num_fields)], children):
        need(child[0].equals(field.type), "a child of another type")


def _array(data: Any) -> Any:
    _check(data)
    made = pa.lib._restore_array(data)
    made.validate(full=True)
    return made


def _chunked(chunks: Any, kind: Any) -> Any:
    need(type(chunks) is list and all(isinstance(c, pa.Array) for c in chunks) and isinstance(kind, pa.DataType), "no arrays and type")
    return pa.chunked_array(chunks, kind)


def _schema(fields: Any, metadata: Any = None) -> Any:
    need(
        type(fields) is list and all(isinstance(f, pa.Field) for f in fields) and (metadata is None or _is_metadata(metadata)), "no fields"
    )
    return pa.schema(fields, metadata)


def _rows(kind: Any) -> Any:
    def make(columns: Any, schema: Any) -> Any:
        parts = (pa.Array, pa.ChunkedArray)
        need(
            type(columns) is list and all(isinstance(c, parts) for c in columns) and isinstance(schema, pa.Schema), "no columns and schema"
        )
        made = kind.from_arrays(columns, schema=schema)
        made.validate(full=True)
        return made

    return make


def _scalar(value: Any, kind: Any) -> Any:
    need(isinstance(kind, pa.DataType) and not isinstance(kind, pa.BaseExtensionType), "no type of Arrow's own")
    return pa.scalar(value, kind)


# ---------------------------------------------------------------- polars


class _Frame:
    """A frame or a series before its bytes came."""


def _table_of(data: Any) -> Any:
    """Arrow's reader, and not polars', which takes the bytes of a peer on trust."""
    need(type(data) in (bytes, bytearray, memoryview), "not what a frame writes")
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table


def frame_of(data: Any) -> Any:
    import polars as pl

    return pl.from_arrow(_table_of(data))


def series_of(data: Any) -> Any:
    frame = frame_of(data)
    need(frame.width == 1, "not one column")
    return frame.to_series()


def _polars_type(name: str) -> Entry:
    def new() -> Any:
        import polars as pl

        return getattr(pl, name)()

    return Entry(new=new)


_TYPES = "type_for_alias timestamp duration time32 time64 list_ large_list field struct dictionary decimal128 decimal256 map_ binary"
_POLARS = "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64 Boolean String Binary Date Time Null Categorical"

TABLE: Table = {
    **{("pyarrow.lib", name): _type(getattr(pa.lib, name)) for name in _TYPES.split()},
    ("pyarrow.lib", "py_buffer"): Entry(make=_buffer),
    ("pyarrow.lib", "_restore_array"): Entry(make=_array),
    ("pyarrow.lib", "chunked_array"): Entry(make=_chunked),
    ("pyarrow.lib", "schema"): Entry(make=_schema),
    ("pyarrow.lib", "_reconstruct_table"): Entry(make=_rows(pa.Table)),
    ("pyarrow.lib", "_reconstruct_record_batch"): Entry(make=_rows(pa.RecordBatch)),
    ("pyarrow.lib", "scalar"): Entry(make=_scalar),
    ("polars.dataframe.frame", "DataFrame"): Entry(new=_Frame, fill=lambda _, state: frame_of(state), must=True),
    ("polars.series.series", "Series"): Entry(new=_Frame, fill=lambda _, state: series_of(state), must=True),
    **{("polars.datatypes.classes", name): _polars_type(name) for name in _POLARS.split()},
}
