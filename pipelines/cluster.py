"""A cluster of Ray that somebody else started: whether it answers, told before anything waits.

Ray itself tries for minutes where nobody listens, and logs every refusal of a token.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from storage.errors import InputError

_WITHIN = 5.0  # seconds for each of the two steps


def reach(
    address: str, resolve: Callable[[str], str | None], connect: Callable[[str], Any]
) -> None:
    """Look whether a cluster answers at an address, and takes our token, within ten seconds.

    Args:
        address: host:port, or auto for the one that runs on this machine; others are not looked at.
        resolve: address -> the host:port that Ray will use.
        connect: connects to host:port as Ray does, and raises what it is refused with.

    Raises:
        InputError: it does not, with the reason and what to do.
    """
    if "://" in address or address == "local":
        return
    advice = "start a head there (`ray start --head`), give another address, or unset RAY_ADDRESS"
    try:
        at = str(resolve(address))
        host, _, port = at.rpartition(":")
        socket.create_connection((host, int(port)), _WITHIN).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"RAY_ADDRESS={address}: nobody answers there ({error}); {advice}"
        ) from None
    refused = _refused(connect, at)
    if "auth" in f"{type(refused).__name__} {refused}".lower():
        raise InputError(
            f"RAY_ADDRESS={address}: the cluster asks for another token; give every node and this "
            "command the same RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or ~/.ray/auth_token)"
        )
    if refused is not None:
        said = str(refused).partition("\n")[0]
        raise InputError(f"RAY_ADDRESS={address}: no cluster of Ray answers ({said}); {advice}")


def _refused(connect: Callable[[str], Any], at: str) -> Exception | None:
    """What a connection is refused with, silence included; None for nothing."""
    told: list[Exception | None] = []

    def attempt() -> None:
        try:
            connect(at)
            told.append(None)
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_WITHIN)
    return told[0] if told else TimeoutError(f"silence for {_WITHIN:.0f} s")
