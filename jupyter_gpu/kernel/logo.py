"""The picture of a kernel in launchers: a chip with the name of its hardware on it, dashed where the hardware is simulated."""

from __future__ import annotations

from html import escape

_SIZE = 64
_BODY, _PINS = 12, (20, 28, 36, 44)
#: Width of a letter of bold sans-serif, in parts of its height.
_LETTER = 0.64


def svg(hardware: str, simulated: bool = False) -> str:
    """``hardware``: as in %%remote gpu=, "H100:2" for instance."""
    kind, _, count = hardware.partition(":")
    inner = _SIZE - 2 * _BODY
    height = min(16.0, (inner - 6) / (_LETTER * max(1, len(kind))))
    pins = "".join(
        f'<path d="M{at} 4v8M{at} {_SIZE - 12}v8M4 {at}h8M{_SIZE - 12} {at}h8" stroke="#7c8a91" stroke-width="3" stroke-linecap="round"/>'
        for at in _PINS
    )
    dashes = ' stroke-dasharray="5 3"' if simulated else ""
    body = (
        f'<rect x="{_BODY}" y="{_BODY}" width="{inner}" height="{inner}" rx="5" fill="#155e6e" stroke="#0b3a45" stroke-width="2"{dashes}/>'
    )
    middle = _SIZE / 2 - (4 if count else 0)
    words = _text(kind, middle, height) + (_text(f"× {count}", middle + 13, 10) if count else "")
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}">{pins}{body}{words}</svg>\n'


def _text(text: str, y: float, height: float) -> str:
    return (
        f'<text x="{_SIZE // 2}" y="{y:g}" fill="#fff" font-family="Helvetica,Arial,sans-serif" font-weight="bold" '
        f'font-size="{height:.1f}" text-anchor="middle" dominant-baseline="central">{escape(text)}</text>'
    )
