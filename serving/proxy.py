"""What Ray Serve's proxy refuses by itself, in JSON like all else: beyond its queue, at its time limit, for a replica
that died, and headers beyond their bounds. Serve calls `set_up` where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH is
serving.proxy:set_up.
"""

import json

import uvicorn.config
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY = 1  # seconds
SENTENCES = {
    408: "there was no answer in time: try again.",
    503: "too many requests wait, or the service is being restarted: try again in a moment.",
}


def set_up() -> list[Middleware]:
    """What Serve puts around its proxy. Serve lets uvicorn choose its parser, so this is where ours comes in."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = "serving.headers:BoundedHeaders"
    return [Middleware(InJson)]


class InJson:
    """Around an application whose own refusals are plain text, or none at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, refused, text = False, 0, b""

        async def said(message: Message) -> None:
            nonlocal started, refused, text
            if message["type"] == "http.response.start":
                started = True
                refused = message["status"] if _is_plain_refusal(message) else 0
            if not refused:
                await send(message)
            elif message["type"] == "http.response.body":
                text += message.get("body", b"")
                if not message.get("more_body", False):
                    await _refuse(send, refused, text.decode(errors="replace"))

        try:
            await self._app(scope, receive, said)
        finally:
            if not started:  # what was asked died
                await _refuse(send, 503, "")


def _is_plain_refusal(message: Message) -> bool:
    kind = dict(message.get("headers", [])).get(b"content-type", b"")
    return bool(message["status"] >= 400 and not kind.startswith(b"application/json"))


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": SENTENCES.get(status) or text or "the service failed."}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", str(RETRY).encode())] if status in SENTENCES else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
