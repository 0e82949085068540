"""How arrays, tensors and instances take over the content of their twins.

Instances exchange it: what the one here had goes to the twin, and away with it. Where an object owns something outside of Python
(a handle that ``__del__`` frees), that is what keeps the owners straight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from . import torch_codec
from .codecs import is_made_view

Journal = list[Callable[[], object]]
_GONE = object()
#: Bytes from which on arrays exchange their content instead of being copied, and by which they do.
_LARGE = 1 << 20
#: Users of a storage that one tensor has, while somebody looks: the tensor, and what it is looked at by.
_SOLE = 2


# ---------------------------------------------------------------- arrays


def swap_array(old: Any, twin: Any, journal: Journal) -> bool:
    """Whether ``old`` could take the content of ``twin``: same shape and dtype. Its strides stay its own: it may be a view."""
    if old.shape != twin.shape or old.dtype != twin.dtype:
        return False
    if old.size == 0 or _address(old) == _address(twin):
        return True
    if is_made_view(twin):
        return False  # only the view itself shows what the array shows that it is a view of
    if not old.flags.writeable:
        try:
            old.flags.writeable = True
        except ValueError:  # its memory is another's, who made it read-only
            return False
    if old.nbytes > _LARGE and _can_exchange(old, twin):
        here, there = (a.reshape(-1) if old.flags.c_contiguous else a.T.reshape(-1) for a in (old, twin))  # views: they are contiguous
        _exchange(here, there, old.itemsize, type(old).copy, _have_same_bytes, journal)
        return True
    before = old.copy(order="K")
    journal.append(lambda: old.__setitem__(..., before))
    old[...] = twin
    return True


def _can_exchange(old: Any, twin: Any) -> bool:
    """Whether each element of both has memory of its own, in the same order."""
    if old.dtype.hasobject or not twin.flags.writeable:
        return False
    ours, theirs = old.flags, twin.flags
    return bool((ours.c_contiguous and theirs.c_contiguous) or (ours.f_contiguous and theirs.f_contiguous))


def _exchange(here: Any, there: Any, itemsize: int, copy: Callable[[Any], Any], same: Callable[[Any, Any], bool], journal: Journal) -> None:
    """Of two rows of elements, block by block: the twin's, which nobody else has, is what undoes it. A copy of something large would be
    a third one. ``same``: whether two blocks have the same bytes.

    ``state`` is (blocks that are exchanged, what the next one had here or None). An interrupt may come between any two steps: the
    blocks that are done are in the twin, and the one under way is in ``state``.
    """
    size = max(1, _LARGE // itemsize)
    state: tuple[int, Any] = (0, None)

    def undo() -> None:
        done, saved = state
        if saved is not None:
            here[done * size : done * size + len(saved)] = saved
        here[: done * size] = there[: done * size]

    journal.append(undo)
    for block in range(-(-len(here) // size)):
        part = slice(block * size, (block + 1) * size)
        if same(here[part], there[part]):  # most often nearly all of it, which a first write since it was hashed makes dear
            state = block + 1, None
            continue
        state = block, copy(here[part])
        here[part] = there[part]
        there[part] = state[1]
        state = block + 1, None


def _have_same_bytes(a: Any, b: Any) -> bool:
    word = "u8" if a.nbytes % 8 == 0 else "u1"
    return bool((a.view(word) == b.view(word)).all())


def _are_same_bytes(a: Any, b: Any) -> bool:
    """Of tensors."""
    import torch

    return bool(torch.equal(a.view(torch.uint8), b.view(torch.uint8)))


def _address(array: Any) -> tuple[int, tuple[int, ...]]:
    return array.__array_interface__["data"][0], array.strides


def swap_tensor(old: Any, twin: Any, journal: Journal) -> bool:
    """Into the same storage, so that views and tied weights see it; with another shape, a storage of its own."""
    import torch

    if old.requires_grad != twin.requires_grad:
        return False
    with torch.no_grad():
        data, grad = old.detach(), old.grad if old.is_leaf else None
        attributes = dict(old.__dict__)
        same = old.shape == twin.shape and old.dtype == twin.dtype and old.device == twin.device
        if same and not _is_untied(data, twin, journal):
            if (once := _each_once(data)) is None:
                return False
            if (rows := _rows(data, twin)) is not None:
                journal.append(torch_codec.moved(old.untyped_storage(), twin.untyped_storage()))
                _exchange(*rows, data.element_size(), torch.Tensor.clone, _are_same_bytes, journal)
            elif not _is_same_memory(data, twin):
                _copy_tensor(once, data, twin.detach(), journal)
        else:
            whole = old.data
            try:
                old.data = twin.data
            except RuntimeError:  # of another kind altogether
                return False
            journal.append(lambda: setattr(old, "data", whole))

        def undo() -> None:
            if old.is_leaf:
                old.grad = grad
            old.__dict__.clear()
            old.__dict__.update(attributes)

        journal.append(undo)
        if old.is_leaf:
            old.grad = twin.grad
        old.__dict__.clear()
        old.__dict__.update(twin.__dict__)
    return True


class _Filled:
    """Which bytes of a storage here have the content of which storage that came, in the load under way."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int, int]] = []  #: from, to, address of the storage that came: the load's memo holds it

    def __call__(self) -> None:
        """As a step of a journal, which holds this for as long as the load takes."""


#: Address of a storage -> what was filled of it.
_filled: WeakValueDictionary[int, _Filled] = WeakValueDictionary()


def _is_untied(old: Any, twin: Any, journal: Journal) -> bool:
    """Whether the memory of ``old`` took over another tensor's content in this load: it is one memory here, and has become two over there.
    Only what is contiguous is compared: columns of one matrix lie between each other."""
    here, there = old.untyped_storage(), twin.untyped_storage()
    if not old.is_contiguous() or not old.nbytes or here._cdata == there._cdata:
        return False
    filled = _filled.get(here._cdata)
    if filled is None:
        filled = _filled[here._cdata] = _Filled()
        journal.append(filled)
    start = old.storage_offset() * old.element_size()
    end = start + old.nbytes
    if any(first < end and start < last and other != there._cdata for first, last, other in filled.spans):
        return True
    filled.spans.append((start, end, there._cdata))
    return False


def _copy_tensor(once: Any, data: Any, twin: Any, journal: Journal) -> None:
    """``once`` shows each element of ``data`` once."""
    before = once.clone()
    journal.append(lambda: once.copy_(before))
    once.copy_(_each_once(twin) if data.stride() == twin.stride() else twin[_first_of_repeats(data)])


def _rows(old: Any, twin: Any) -> tuple[Any, Any] | None:
    """The elements of two large tensors one after the other, as they are in memory, if they may be exchanged: nothing but ``twin`` shows
    its memory yet, and both are all that their memory holds. (Another tensor that came with it would show afterwards what was here
    before; for those that are made later, see ``torch_codec.moved``.)"""
    import torch

    plain = type(twin) in (torch.Tensor, torch.nn.Parameter) and old.layout is twin.layout is torch.strided
    if not plain or old.nbytes <= _LARGE or any(t.untyped_storage().nbytes() != old.nbytes for t in (old, twin)):
        return None
    if _users_of(twin.untyped_storage()) != _SOLE:
        return None
    order = sorted(range(old.dim()), key=old.stride, reverse=True)
    rows = [tensor.detach().permute(order) for tensor in (old, twin)]
    return (rows[0].view(-1), rows[1].view(-1)) if all(tensor.is_contiguous() for tensor in rows) else None


def _is_same_memory(one: Any, other: Any) -> bool:
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata) and (
        (one.storage_offset(), one.stride()) == (other.storage_offset(), other.stride())
    )


def _users_of(storage: Any) -> int:
    """How many tensors, and Python objects for it, have a storage; 0: this torch does not tell."""
    import torch

    count = getattr(torch._C, "_storage_Use_Count", None)
    return 0 if count is None else int(count(storage._cdata))


def _first_of_repeats(tensor: Any) -> tuple[slice, ...]:
    return tuple(slice(0, 1) if step == 0 else slice(None) for step in tensor.stride())


def _each_once(tensor: Any) -> Any:
    """A view that shows each element of an expanded tensor once; None for one whose rows overlap in another way."""
    if tensor.layout.__str__() != "torch.strided":
        return tensor
    once = tensor[_first_of_repeats(tensor)] if tensor.dim() else tensor
    reach = 0
    for step, size in sorted(zip(once.stride(), once.shape)):
        if size > 1:
            if step <= reach:
                return None
            reach += (size - 1) * step
    return once


# ---------------------------------------------------------------- instances


def swap_state(old: Any, twin: Any, journal: Journal) -> None:
    """``__dict__`` and slots."""
    try:
        ours, theirs = object.__getattribute__(old, "__dict__"), object.__getattribute__(twin, "__dict__")
    except AttributeError:  # slots alone
        ours = theirs = None
    if isinstance(ours, dict) and ours is not old:  # (a dict may be its own __dict__, and has changed then)
        _swap_dict(ours, theirs, journal)
        if "_flags" in ours and "_mgr" in ours:  # pandas' flags refer weakly to their frame
            _mend_flags(old, twin, ours, theirs, journal)
    for cls in type(old).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot in ("__dict__", "__weakref__"):
                continue
            descriptor = vars(cls).get(f"_{cls.__name__.lstrip('_')}{slot}" if slot.startswith("__") and not slot.endswith("__") else slot)
            if descriptor is not None:
                _swap_slot(descriptor, old, twin, journal)


def _swap_dict(ours: dict[str, Any], theirs: dict[str, Any], journal: Journal) -> None:
    before, after = dict(ours), dict(theirs)

    def put(here: dict[str, Any], there: dict[str, Any]) -> None:
        ours.clear()
        ours.update(here)
        theirs.clear()
        theirs.update(there)

    journal.append(lambda: put(before, after))
    put(after, before)


def _mend_flags(old: Any, twin: Any, ours: dict[str, Any], theirs: dict[str, Any], journal: Journal) -> None:
    flags, other = theirs["_flags"], ours["_flags"]  # after the swap: ``flags`` is the one that refers to ``old``
    was, will = flags._allows_duplicate_labels, other._allows_duplicate_labels
    journal.append(lambda: setattr(flags, "_allows_duplicate_labels", was))
    ours["_flags"], theirs["_flags"] = flags, other
    flags._allows_duplicate_labels = will


def _swap_slot(descriptor: Any, old: Any, twin: Any, journal: Journal) -> None:
    def put(obj: Any, value: Any) -> None:
        if value is not _GONE:
            descriptor.__set__(obj, value)
        elif _slot(descriptor, obj) is not _GONE:
            descriptor.__delete__(obj)

    ours, theirs = _slot(descriptor, old), _slot(descriptor, twin)

    def both(here: Any, there: Any) -> None:
        put(old, here)
        put(twin, there)

    journal.append(lambda: both(ours, theirs))
    both(theirs, ours)


def _slot(descriptor: Any, obj: Any) -> Any:
    try:
        return descriptor.__get__(obj, type(obj))
    except AttributeError:
        return _GONE
