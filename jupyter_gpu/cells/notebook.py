"""What one notebook (one IPython shell) has of remote things: its gateway, its sessions, its defaults."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import uuid
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..sync.trust import Trust, chosen
from ..wire.errors import BadOptionValue, JupyterGpuError, SessionLost
from ..wire.messages import SessionInfo, Wanted
from .options import Options, hardware_text, parse_gpu
from .outputs import Publisher
from .remote import Remote

if TYPE_CHECKING:
    from ..client import Gateway
    from ..config import JupyterGPU
    from .report import Report

log = logging.getLogger(__name__)
_ANY = (Wanted(type="ANY"),)


class Notebook:
    """One for a shell; ``Notebook.of(shell)`` finds it."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        # Of this process: a kernel that was restarted has an empty namespace, and must not find its old session.
        self.identity = uuid.uuid4().hex[:12]
        self.publisher = Publisher(shell)
        self.default: Options | None = None  #: of `%remote default`
        self.quiet = False
        self.last: Report | None = None  #: of the last remote cell
        self.remotes: dict[str, Remote] = {}  #: by what follows the notebook's identity in the session's key
        self._gateway: Gateway | None = None
        self._config: tuple[tuple[str | None, ...], JupyterGPU] | None = None
        self._generation = 0
        self._pid = os.getpid()
        atexit.register(_close_at_exit, weakref.ref(self))
        shell.events.register("post_run_cell", self._after_cell)

    @classmethod
    def of(cls, shell: Any) -> Notebook:
        found = getattr(shell, "_jupyter_gpu", None)
        if not isinstance(found, cls):
            found = shell._jupyter_gpu = cls(shell)
        return found

    # ------------------------------------------------------------ gateway

    def gateway(self) -> Gateway:
        """The gateway that the configuration names, or one of the person's own, started if need be."""
        if self._gateway is None or self._gateway.closed or not self._gateway.alive:
            from ..client import Gateway

            self._gateway = Gateway.connect(self.config())  # one that does not answer any more is found again, or started
        return self._gateway

    def config(self) -> JupyterGPU:
        """Read again when the environment changed: a cell may set the variables."""
        from ..config import ENVIRONMENT, load

        seen = tuple(map(os.environ.get, ENVIRONMENT))
        if self._config is None or self._config[0] != seen:
            self._config = seen, load(getattr(self.shell, "config", None))
        return self._config[1]

    def shares_files(self) -> bool:
        """Whether workers run on this machine, for this person: paths mean the same there."""
        return self._gateway is None or self._gateway.welcome.own

    def keep_above(self) -> int:
        """Bytes beyond which a new result stays on its worker; -1: none does for its size."""
        return self.config().keep_above_bytes()

    # ------------------------------------------------------------ sessions

    def wanted(self, options: Options) -> tuple[Wanted, ...]:
        """Hardware of a cell: what it says, or the notebook's default, or the configuration's, or any GPU."""
        if options.gpu:
            return options.gpu
        if self.default is not None and self.default.gpu:
            return self.default.gpu
        configured = self.config().default_gpu
        return parse_gpu(configured) if configured else _ANY

    def remote(self, options: Options) -> Remote:
        """The session of a cell; not opened yet if it is a new one. Raises ``BadOptionValue`` for a name that has other hardware."""
        if options.name:
            slot = f"name:{options.name}"
            found = self._alive(slot)
            if found is not None and options.gpu and options.gpu != found.wanted:
                has = hardware_text(found.wanted)
                raise BadOptionValue(
                    option="gpu",
                    value=options.hardware,
                    expected=f"gpu={has}, which the session {options.name!r} has; `%remote stop {options.name}` ends it",
                )
        else:
            slot = hardware_text(self.wanted(options))
            found = self._alive(slot)
        if found is None:
            self._generation += 1
            key = f"{self.identity}/{slot}/{self._generation}"
            found = self.remotes[slot] = Remote(self.shell, key, self.wanted(options), options.name, self.publisher)
        return found

    def peek(self, options: Options) -> Remote:
        """The session that a cell would have, without making it the notebook's."""
        before = set(self.remotes)
        found = self.remote(options)
        for slot in set(self.remotes) - before:
            del self.remotes[slot]
        return found

    def _alive(self, slot: str) -> Remote | None:
        found = self.remotes.get(slot)
        if found is not None and not found.alive:
            del self.remotes[slot]
            return None
        return found

    def open(self, remote: Remote, options: Options, on_change: Callable[[SessionInfo], None]) -> bool:
        """Give ``remote`` its session. Whether there was none yet. ``on_change(SessionInfo)`` hears of each phase. Raises
        ``SessionLost`` where the gateway went away since the last cell and took the session with it."""
        if remote.session is not None:
            if self._gateway is None or not self._gateway.alive:
                self._find_again(remote)
            return False
        config = self.config()
        session = self.gateway().open(
            remote.key,
            list(remote.wanted),
            idle=options.idle or config.idle,
            owner=self.owner(),
            cwd=os.getcwd(),
            interpreter=config.interpreter,
            on_change=on_change,
        )
        remote.replica.trust = self.trust()
        remote.attach(session)
        return True

    def trust(self) -> Trust:
        """What workers may send. One's own gateway is the one that this notebook finds or starts itself, whatever another says of
        itself."""
        config = self.config()
        return chosen(config.trust, own=not config.gateway)

    def _find_again(self, remote: Remote) -> None:
        assert remote.session is not None
        session_id = remote.session.info.session_id
        if all(s.session_id != session_id for s in self.gateway().sessions()):
            raise SessionLost(session=remote.label, reason="its gateway went away, and the one that is there now does not know it")

    def owner(self) -> str:
        """Whom status shows: the notebook's path, where the front end tells it."""
        for name in ("JPY_SESSION_NAME", "__vsc_ipynb_file__"):
            found = os.environ.get(name) or self.shell.user_ns.get(name)
            if isinstance(found, str) and found:
                return os.path.basename(found)
        return f"process {os.getpid()}"

    def drop(self, remote: Remote) -> None:
        """Never use it again; its session is given up."""
        remote.end()
        for slot in [s for s, r in self.remotes.items() if r is remote]:
            del self.remotes[slot]
        if remote.session is not None:
            try:
                remote.session.close()
            except (JupyterGpuError, OSError) as error:  # that it is gone already is what was wanted
                log.info("closing a session: %s", error)

    def stop(self, remote: Remote) -> SessionInfo | None:
        """End the session of ``remote`` at the gateway."""
        info = remote.session.info if remote.session is not None else None
        if info is not None and not remote.ended:
            self.gateway().stop(info.session_id)
        self.drop(remote)
        return info

    def _after_cell(self, result: object) -> None:
        """What a local cell let go of need not wait for the next remote one to be freed."""
        for remote in list(self.remotes.values()):
            remote.prune()

    def close(self) -> None:
        """The notebook's process ends: so do its sessions, whose hardware others wait for."""
        if os.getpid() != self._pid:
            return  # a fork of the kernel (multiprocessing): the sessions are not its own
        for remote in list(self.remotes.values()):
            try:
                self.stop(remote)
            except Exception as error:  # at exit there is nobody to tell, and the gateway ends idle sessions anyway
                log.info("ending a session: %s", error)
        with contextlib.suppress(ValueError):  # it was closed before
            self.shell.events.unregister("post_run_cell", self._after_cell)
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            try:
                gateway.close()
            except Exception as error:  # likewise
                log.info("leaving the gateway: %s", error)


def _close_at_exit(reference: weakref.ref[Notebook]) -> None:
    notebook = reference()
    if notebook is not None:
        notebook.close()
