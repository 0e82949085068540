"""Which gateway a kernel belongs to, and how to reach it now: one's own may have been started again meanwhile."""

from __future__ import annotations

import asyncio
import json
import os

#: Set by the provisioner, which has looked it up: JSON of url, token, whether it is one's own, and ``outlive``. Saves a start the search.
FOUND = "JUPYTER_GPU_FOUND"


class Where:
    """``now()`` gives url and token. Raises what ``embedded.find_or_start`` raises, and what is wrong with the configuration. ``own``: the
    person's own, whatever is configured."""

    def __init__(self, own: bool = False) -> None:
        found = None if own else json.loads(os.environ.pop(FOUND, "null"))
        self._only_own = own
        self._known: tuple[str, str] | None = (found["url"], found["token"]) if found else None
        self._own: bool | None = bool(found["own"]) if found else None
        self._outlive: float | None = float(found["outlive"]) if found else None

    @property
    def name(self) -> str:
        return self._known[0] if self._known else "your own gateway"

    async def now(self) -> tuple[str, str]:
        if self._known is None:
            self._known = await asyncio.to_thread(self._look)
        return self._known

    async def is_own(self) -> bool:
        """Whether it is the person's own."""
        await self.now()
        return bool(self._own)

    async def outlive(self) -> float:
        """Seconds for which the kernel of a notebook waits for it to come back."""
        if self._outlive is None:
            await self.now()
        return self._outlive or 0.0

    def failed(self) -> None:
        """It could not be reached. One of one's own is looked for again, and started where it is gone."""
        if self._own:
            self._known = None

    def _look(self) -> tuple[str, str]:
        from ..config import load

        config = load()
        self._own, self._outlive = self._only_own or not config.gateway, config.outlive
        if not self._own:
            return config.gateway, config.token
        from .. import embedded

        found = embedded.find_or_start(config)
        return found.url, found.token
