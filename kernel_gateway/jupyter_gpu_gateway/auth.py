"""Who may speak: a token for clients, a secret of its own for each worker. There is no open mode."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from jupyter_gpu.wire.errors import BadOptionValue


def new_token() -> str:
    """256 random bits, as text that can stand in a URL or a header."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is stored of a secret. It is random and long, so that no salt is needed."""
    return hashlib.sha256(secret.encode()).digest()


def bearer(header: str | None) -> str:
    """The token of an Authorization header; "" if there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Keys:
    """What opens the gateway. Comparisons take the same time wherever the difference is."""

    def __init__(self, token: str) -> None:
        if not token:
            raise BadOptionValue(option="token", value="", expected="a token: the gateway is never open, not even on loopback")
        self._token = digest(token)
        self.workers: dict[str, bytes] = {}

    def is_client(self, token: str) -> bool:
        return hmac.compare_digest(digest(token), self._token)

    def worker_of(self, token: str) -> str:
        """Id of the worker whose ``worker_id:secret`` this is; "": nobody's."""
        worker_id, _, secret = token.partition(":")
        known = self.workers.get(worker_id, b"")
        return worker_id if hmac.compare_digest(digest(secret), known) else ""

    def new_worker(self, worker_id: str) -> str:
        """A secret for a worker that is about to start."""
        secret = new_token()
        self.workers[worker_id] = digest(secret)
        return secret
