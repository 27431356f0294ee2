"""Bounds of a request's headers, in size and in time, which uvicorn's parser has none of: without them a client could
fill the memory of Serve's proxy, or keep a connection for ever.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 2**16
PIECE_BYTES = 2**12  # that are parsed at a time until the headers end: they may be larger by as much
SECONDS = 10.0


class BoundedHeaders(HttpToolsProtocol):
    """A connection that is closed, with a 431 or a 408 in JSON, where the headers of a request have more than
    `MOST_BYTES`, or `SECONDS` after the connection or their first byte have not ended.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers, self._bytes = True, 0
        self._end: asyncio.TimerHandle | None = None
        self._refusal = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        while data and not (self._refusal or self.transport.is_closing()) and self.transport.get_protocol() is self:
            if not self._in_headers:  # what is left of the read is the body, and what the next request begins with
                super().data_received(data)
                return
            self._begin()
            piece, data = data[:PIECE_BYTES], data[PIECE_BYTES:]
            self._bytes += len(piece)
            super().data_received(piece)
            if self._in_headers and self._bytes > MOST_BYTES:
                self._refuse(431, f"a request's headers have at most {MOST_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._stop()
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        super().on_message_complete()
        self._in_headers, self._bytes = True, 0

    def on_response_complete(self) -> None:
        """Called where a request was answered."""
        super().on_response_complete()
        self._close_if_refused()

    def _begin(self) -> None:
        if self._end is None:
            late = f"a request's headers come within {SECONDS:g} s."
            self._end = self.loop.call_later(SECONDS, self._refuse, 408, late)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def _refuse(self, status: int, reason: str) -> None:
        self._stop()
        body = json.dumps({"error": reason}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._refusal = head.encode() + body
        self._close_if_refused()

    def _close_if_refused(self) -> None:
        """Once the requests before it are answered, of a client that did not wait."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._refusal and not (answering or self.transport.is_closing()):
            self.transport.write(self._refusal)
            self.transport.close()
