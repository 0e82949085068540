"""Connecting again after a drop: how soon, how often, and when to stop hoping."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from ..wire.errors import GatewayUnreachable, SessionLost
from .connection import Connection

Dialer = Callable[[], Awaitable[Connection]]


class Redialer:
    """``give_up`` and ``backoff`` (first and longest pause) in seconds; ``session`` is named in ``SessionLost``. The first
    attempt is not repeated: a wrong address should be told at once. ``closing`` ends everything when it is set."""

    def __init__(self, dialer: Dialer, closing: asyncio.Event, *, session: str, give_up: float, backoff: tuple[float, float]) -> None:
        self._dialer = dialer
        self._closing = closing
        self._session = session
        self._give_up = give_up
        self._shortest, self._longest = backoff
        self._pause = self._shortest
        self._first = True
        self._lost_at: float | None = None
        self._reason = "it is closed at once each time"

    def good(self) -> None:
        """The present connection works: patience begins anew with its end."""
        self._pause = self._shortest
        self._lost_at = None

    async def dial(self) -> Connection | None:
        """The next connection; None: closed meanwhile. Raises ``SessionLost``, and what the dialer raises other than
        ``GatewayUnreachable`` (that too, the first time)."""
        now = asyncio.get_running_loop().time
        if self._lost_at is None:
            self._lost_at = now()
        while not self._closing.is_set():
            if not self._first:
                if now() - self._lost_at > self._give_up:
                    raise SessionLost(session=self._session, reason=f"no connection for {self._give_up:g} seconds ({self._reason})")
                await self._rest()
            try:
                return await self._try()
            except GatewayUnreachable as error:
                if self._first:
                    raise
                self._reason = error.reason
            finally:
                self._first = False
        return None

    async def _rest(self) -> None:
        # At random, so that all clients of a gateway that was restarted don't come at once.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._pause * random.uniform(0.5, 1))
        self._pause = min(2 * self._pause, self._longest)

    async def _try(self) -> Connection | None:
        if self._closing.is_set():
            return None
        dialing = asyncio.ensure_future(self._dialer())
        closing = asyncio.ensure_future(self._closing.wait())
        taken = False
        try:
            await asyncio.wait([dialing, closing], return_when=asyncio.FIRST_COMPLETED)
            if self._closing.is_set():
                return None
            taken = True
            return dialing.result()
        finally:
            closing.cancel()
            if not taken:
                dialing.cancel()
                await asyncio.wait([dialing])
                if not dialing.cancelled() and dialing.exception() is None:
                    dialing.result().abort()  # it came too late: nobody would close it
