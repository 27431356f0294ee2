"""From a request to the bytes of an image file, with a sentence and a 4xx status for everything that has none."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.answers import RequestError, too_late

FIELD = "image"
BODY_SECONDS = 10.0  # from the headers of a request to the end of its body
HELD_BYTES = 2**28  # of bodies that are read or being answered


class Bodies:
    """Reads bodies of up to `max_bytes`, and only so many at a time that they take HELD_BYTES."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @asynccontextmanager
    async def upload(self, request: Request, seconds: float) -> AsyncIterator[bytes]:
        """The bytes of the image file: the multipart field "image", or else the whole body.

        Raises RequestError: 400 for an empty one and for a form without the field, 504 for one that takes all of the
        `seconds` that the client waits; 408, 413 and 503 as `body`.
        """
        async with self.whole(request, seconds) as body:
            content_type = request.headers.get("content-type", "").lower()
            upload = await _form_field(request, body) if content_type.startswith("multipart/form-data") else body
            if not upload:
                raise RequestError(
                    400, "the upload is empty: send an image as the body or as the multipart field image."
                )
            yield upload

    @asynccontextmanager
    async def whole(self, request: Request, seconds: float) -> AsyncIterator[bytes]:
        """The body of a request that brings pictures. Raises RequestError: 408, 413, 503 and 504 as above."""
        refusal = RequestError(
            413, f"the upload is larger than the {self._max_bytes / 2**20:g} MB that this service accepts."
        )
        async with self.body(request, self._max_bytes, refusal, seconds) as body:
            yield body

    @asynccontextmanager
    async def body(
        self, request: Request, max_bytes: int, refusal: RequestError, seconds: float = math.inf
    ) -> AsyncIterator[bytes]:
        """The body of a request, whose client waits so many `seconds` for the answer.

        Raises `refusal` for one of more than `max_bytes`, which is not read to its end, and RequestError: 408 for one
        that takes more than BODY_SECONDS, 504 for one that takes all of `seconds`, 503 where other bodies hold all of
        HELD_BYTES.
        """
        if int(request.headers.get("content-length", 0)) > max_bytes:
            raise refusal
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(min(BODY_SECONDS, seconds)):
                    await self._read_into(body, request, max_bytes, refusal)
            except TimeoutError:
                slow = RequestError(408, f"the upload did not arrive within {BODY_SECONDS:g} s: send it again.")
                raise (too_late(seconds) if seconds < BODY_SECONDS else slow) from None
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _read_into(self, body: bytearray, request: Request, max_bytes: int, refusal: RequestError) -> None:
        async for chunk in request.stream():
            if self._held + len(chunk) > HELD_BYTES:
                reason = "too many uploads at a time: try again in a moment."
                raise RequestError(503, reason, retry_after=1, full=True)
            self._held += len(chunk)
            body += chunk
            if len(body) > max_bytes:
                raise refusal


async def _form_field(request: Request, body: bytes) -> bytes:
    # Starlette's own request.form() would spool a file of any size to disk before it could be refused.
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, whole(), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise RequestError(400, f"the multipart form cannot be read: {error.message.rstrip('.')}.") from None
    try:
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile):
            raise RequestError(400, f"the multipart form has no file in a field named {FIELD}.")
        return await upload.read()
    finally:
        await form.close()
