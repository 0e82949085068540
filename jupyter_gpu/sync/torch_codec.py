"""Tensors by their storage: views and tied weights go on sharing memory, and the bytes go out of band instead of through a copy."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from .codecs.base import Route

if TYPE_CHECKING:
    from .pickler import Pickler

#: Bytes of a storage that goes along whole, however little of it a tensor shows.
_WHOLE = 64 << 20
#: Attribute of a tensor that came to a machine without its device: where it belongs.
_HOME = "_jupyter_gpu_device"

trusted = frozenset(
    {"jupyter_gpu.sync.torch_codec:_load_storage", "jupyter_gpu.sync.torch_codec:_make_tensor", "torch:Size", "torch:device", "torch:dtype"}
)


def route_of(kind: type, pickler: Pickler) -> Route | None:
    return reduce_tensor if issubclass(kind, getattr(sys.modules["torch"], "Tensor", ())) else None


class _Moved:
    """The content of a storage that came, ``there``, is in one that was ``here`` before, and the other way round."""

    def __init__(self, here: Any, there: Any) -> None:
        self.here = here
        self.there = there  # held: nobody else gets its address meanwhile

    def __call__(self) -> None:
        """As a step of a journal. There is nothing to undo: what the journal held is forgotten."""


#: Address of a storage -> where its content is. For as long as the journal of the load has the entry.
_moved: WeakValueDictionary[int, _Moved] = WeakValueDictionary()


def moved(here: Any, there: Any) -> _Moved:
    """For a journal: as long as it holds this, what the stream says of the storage ``there`` is made of the one ``here``. So tensors that
    show the same memory over there do so here."""
    found = _moved[there._cdata] = _Moved(here, there)
    return found


class _Storage:
    """One storage in one pickle: its identity is what tensors share."""

    def __init__(self, storage: Any, home: str) -> None:
        self.storage = storage
        self.home = home

    def __reduce__(self) -> Any:
        import torch

        on_host = self.storage.cpu()
        data: Any = torch.empty(0, dtype=torch.uint8).set_(on_host).numpy() if on_host.nbytes() else b""
        return _load_storage, (pickle.PickleBuffer(data), self.home)


def reduce_tensor(pickler: Pickler, tensor: Any) -> Any:
    """``NotImplemented`` for what has no plain storage: torch pickles that itself."""
    import torch

    kind = type(tensor)
    if kind is not torch.Tensor and kind is not torch.nn.Parameter:
        return NotImplemented
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta" or tensor.is_conj() or tensor.is_neg():
        return NotImplemented
    shown, storage = tensor.detach(), tensor.untyped_storage()
    if storage.nbytes() > _WHOLE and 2 * tensor.numel() * tensor.element_size() < storage.nbytes():
        shown = shown.clone()  # a row of something large travels alone
        storage = shown.untyped_storage()
    attributes = dict(tensor.__dict__)
    home = attributes.pop(_HOME, None) or str(tensor.device)
    holder = pickler.storages.get(storage._cdata)
    if holder is None:
        holder = pickler.storages[storage._cdata] = _Storage(storage, home)
    how = (tensor.dtype, shown.storage_offset(), tuple(shown.shape), shown.stride(), tensor.requires_grad, kind is torch.nn.Parameter)
    return _make_tensor, (holder, *how, tensor.grad if tensor.is_leaf else None, attributes)


def _load_storage(data: Any, home: str) -> tuple[Any, str]:
    import torch

    device = torch.device(home)
    here = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_available())
    view = memoryview(data)
    if view.nbytes == 0:
        storage: Any = torch.empty(0, dtype=torch.uint8).untyped_storage()
    else:
        storage = torch.frombuffer(bytearray(view) if view.readonly else data, dtype=torch.uint8).untyped_storage()
    if here and device.type == "cuda":
        index = device.index if device.index is not None and device.index < torch.cuda.device_count() else 0
        storage = storage.cuda(index)
    return storage, "" if here else home


def _make_tensor(
    holder: tuple[Any, str],
    dtype: Any,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    parameter: bool,
    grad: Any,
    attributes: dict[str, Any],
) -> Any:
    import torch

    storage, home = holder
    if (place := _moved.get(storage._cdata)) is not None:
        storage = place.here
    tensor = torch.empty(0, dtype=dtype, device=storage.device).set_(storage, offset, shape, stride)
    if parameter:
        tensor = torch.nn.Parameter(tensor, requires_grad)
    else:
        tensor.requires_grad_(requires_grad)
    if grad is not None:
        tensor.grad = grad
    tensor.__dict__.update(attributes)
    if home:
        setattr(tensor, _HOME, home)
    return tensor
