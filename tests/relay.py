"""A TCP relay before a server on loopback: it counts what passes, and holds or breaks an answer where a test says."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Relay:
    """Passes everything on until `limit` bytes of answers went by; then answers wait until `limit` is None."""

    def __init__(self, endpoint: str, limit: int | None, port: int = 0) -> None:
        self.limit = limit
        self.passed = 0  # bytes of answers
        self.held = threading.Event()  # set once an answer waits
        self._server = (str(urlsplit(endpoint).hostname), int(urlsplit(endpoint).port or 80))
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        """Lets everything pass from now on."""
        with self._changed:
            self.limit = None
            self._changed.notify_all()

    def break_connections(self) -> None:
        """Cuts the connections of the moment; new ones are accepted."""
        for one in self._sockets[1:]:
            _close(one)
        self.open()

    def close(self) -> None:
        """Cuts everything."""
        _close(self._listener)
        self.break_connections()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket()
                # So that little of what the server sent waits in the kernel when it dies.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
                try:
                    server.connect(self._server)
                except OSError:
                    _close(server)
                    _close(client)
                    continue
                self._sockets += [client, server]
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers:
                    self._wait(len(data))
                target.sendall(data)
        _close(source)
        _close(target)

    def _wait(self, count: int) -> None:
        with self._changed:
            if self.limit is not None and self.passed + count > self.limit:
                self.held.set()
                self._changed.wait_for(lambda: self.limit is None)
            self.passed += count


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def relay(endpoint: str, limit: int | None = None, port: int = 0) -> Iterator[Relay]:
    """A relay to `endpoint` that holds answers after `limit` bytes."""
    one = Relay(endpoint, limit, port)
    try:
        yield one
    finally:
        one.close()
