"""A planner over HTTP, as ASGI applications without a framework.

`Guard` stands before everything: it compares the token and the length that a request claims before
it asks for a byte of its body. `PlannerApp` answers. Both know nothing of who serves them
(`pipelines.serving` does it with Ray Serve, whose proxy holds the connection in another process and
takes in what is sent until there is an answer).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from time import perf_counter
from typing import Any

from pipelines.planner.bundle import load_planner
from pipelines.planner.requests import MAX_BYTES, MAX_SIDE, RequestError, read_question

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


async def _answer(send: Send, status: int, told: Any) -> None:
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status in (401, 411, 413):
        headers.append((b"connection", b"close"))  # what follows is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Guard:
    """Lets through what carries the token and claims no more than the largest length."""

    def __init__(self, app: App, token_digest: str, max_bytes: int = MAX_BYTES) -> None:
        """`token_digest`: SHA-256 of the token, hex; the token itself is not kept."""
        self.app, self.token_digest, self.max_bytes = app, token_digest, max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope["method"], dict(scope["headers"]))
        except RequestError as refused:
            await _answer(send, refused.status, {"error": str(refused)})
            return
        await self.app(scope, receive, send)

    def _check(self, method: str, headers: dict[bytes, bytes]) -> None:
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = hashlib.sha256(token.strip()).hexdigest()
        if kind.lower() != b"bearer" or not hmac.compare_digest(given, self.token_digest):
            raise RequestError(401, "no token, or a wrong one: send Authorization: Bearer <token>")
        if method == "GET":
            return
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            raise RequestError(411, "say the length of the request (Content-Length)")
        if len(length) > 12 or int(length) > self.max_bytes:
            raise RequestError(
                413,
                f"the request has {length[:12].decode()} bytes; at most {self.max_bytes} are read",
            )


class PlannerApp:
    """Answers /plan and /about with the planner of a bundle."""

    def __init__(self, bundle: Path) -> None:
        """Raises BundleError for a bundle that is not whole."""
        self.planner = load_planner(bundle)
        described = json.loads((bundle / "planner.json").read_text())
        kept = ("name", "clock", "rate_hz", "control_rate_hz", "state", "action")
        self.about = {name: described[name] for name in kept}
        self.about |= {"max_bytes": MAX_BYTES, "max_side": MAX_SIDE}
        self._lock = threading.Lock()  # one arm, one question at a time

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        try:
            told = await self._told(scope, receive)
        except RequestError as refused:
            await _answer(send, refused.status, {"error": str(refused)})
        except ValueError as refused:  # what the planner itself does not take
            await _answer(send, 400, {"error": str(refused).splitlines()[0]})
        else:
            await _answer(send, 200, told)

    async def _told(self, scope: Message, receive: Receive) -> dict[str, Any]:
        asked = (scope["method"], scope["path"])
        if asked == ("GET", "/about"):
            return self.about
        if scope["path"] not in ("/plan", "/about"):
            raise RequestError(404, "there is POST /plan and GET /about")
        if asked != ("POST", "/plan"):
            raise RequestError(405, "ask POST /plan or GET /about")
        return await asyncio.to_thread(self.plan, await _body(receive))

    def plan(self, body: bytes) -> dict[str, Any]:
        """The answer to a body of POST /plan. Raises RequestError."""
        question, begin = read_question(body), perf_counter()
        with self._lock:
            found = self.planner.search(
                question.frame, question.state, question.goal_frame, question.step
            )
        return {
            "action": found.actions[0].double().tolist(),
            "energy": found.energy,
            "staying": found.staying,
            "stayed": found.stayed,
            "seconds": round(perf_counter() - begin, 6),
        }


async def _body(receive: Receive) -> bytes:
    """All of a request's body, which a guard has found short enough; 413 if it is longer."""
    parts, size = [], 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BYTES:
            raise RequestError(413, f"at most {MAX_BYTES} bytes are read")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
