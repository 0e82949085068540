"""Which value of a list of values an opcode belongs to, by what opcodes take from the stack and put on it."""

from __future__ import annotations

import pickletools


def value_at(stream: bytes, position: int) -> int:
    """Of a pickle of one list: index of the value within which the opcode that ends at ``position`` stands. A stream that is not such
    a pickle gives any number."""
    heights, base = [0], 0
    slot: int | None = None
    try:
        for op, _, found in pickletools.genops(stream):
            start = found or 0
            take = op.stack_before or []
            if pickletools.markobject in take:
                above = heights.pop()
                if len(heights) == 1:  # a batch of values, which pickle writes a thousand at a time
                    if slot is not None:
                        return base + slot
                    base += above
                take = take[: take.index(pickletools.markobject)]
            heights[-1] -= len(take)
            if start >= position - 1 and len(heights) == 2:
                slot = heights[1] if slot is None else min(slot, heights[1])
            elif start >= position - 1 and slot is None and len(heights) == 1:
                return base  # the last one, by itself
            for put in op.stack_after or []:
                if put is pickletools.markobject:
                    heights.append(0)
                else:
                    heights[-1] += 1
    except (ValueError, IndexError):
        pass
    return base + (slot or 0)
