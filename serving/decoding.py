"""Decodes uploads in processes of their own: whoever no longer waits for a picture ends the process that decodes it."""

import asyncio
import subprocess
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO

from PIL import Image

from serving import children
from serving.answers import RequestError
from serving.decoder import HEADER, PICTURE, REQUEST, TOO_LARGE


class Decoders:
    """So many processes, each started when it is first needed."""

    def __init__(self, count: int) -> None:
        self._turns = asyncio.Semaphore(count)
        self._idle = deque(_Decoder() for _ in range(count))
        # Each waits for one process. One more a process, as one that is ended is waited for while the next begins.
        self._threads = ThreadPoolExecutor(2 * count, "decode")

    async def decode(self, upload: bytes, white: int) -> Image.Image:
        """The picture of an image file as RGB; `white` is that of the detector which judges it. Cancelled, it ends the
        process that decodes.

        Raises RequestError for what `open_image` refuses: 413 for one that is too large, else 400.
        """
        async with self._turns:
            decoder = self._idle.popleft()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, decoder.decode, upload, white)
            except asyncio.CancelledError:
                decoder.end()
                decoder = _Decoder()
                raise
            finally:
                self._idle.append(decoder)

    def close(self) -> None:
        """Ends the processes, of which none is decoding."""
        self._threads.shutdown()
        for decoder in self._idle:
            decoder.close()


class _Decoder:
    """One process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def decode(self, upload: bytes, white: int) -> Image.Image:
        """As `Decoders.decode`, and waits. Where the process died it may have been killed: it is tried once more."""
        try:
            for _ in range(2):
                try:
                    return self._ask(upload, white)
                except (OSError, EOFError):
                    self.close()
        finally:
            if self._ended:
                self.close()
        raise RequestError(
            400, "the upload takes more memory to decode than this service has for one: make it smaller."
        )

    def end(self) -> None:
        """From another thread: whoever waits in `decode` gets no picture."""
        self._ended = True
        if process := self._process:
            process.kill()

    def _ask(self, upload: bytes, white: int) -> Image.Image:
        if self._process is None:
            self._process = children.start("serving.decoder")
        if self._ended:
            raise EOFError
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(REQUEST.pack(len(upload), white))
        requests.write(upload)
        requests.flush()
        kind, width, height = HEADER.unpack(_exactly(answers, HEADER.size))
        if kind == PICTURE:
            return Image.frombytes("RGB", (width, height), _exactly(answers, 3 * width * height))
        raise RequestError(413 if kind == TOO_LARGE else 400, _exactly(answers, height).decode())

    def close(self) -> None:
        """Ends the process, if there is one."""
        if (process := self._process) is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # of a request that it did not read
                pipe.close()
        process.wait()
        self._process = None


def _exactly(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise EOFError
    return content
