"""What a bridge makes of answers that are none of our service."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from inpformer.errors import UserError
from serving.asking import ask, check_service


class Other(BaseHTTPRequestHandler):
    """Some other server: /page is a page, /away leads to what is no address."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/away"):
            self.send_response(307)
            self.send_header("Location", "http://a..b/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            page = b"<h1>It works</h1>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    ("place", "status", "named"), [("page", 200, "It works"), ("away", None, "LocationParseError")]
)
def test_an_answer_of_another_server_is_no_verdict(other: str, place: str, status: int | None, named: str) -> None:
    verdict = ask(f"{other}/{place}", b"picture", {"category": "nut"}, 0.1, threading.Event())
    assert verdict is not None
    assert (verdict["decision"], verdict["status"], verdict["category"]) == ("ERROR", status, "nut")
    assert named in verdict["error"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "http://", "http://[", "http://a..b", "http://a b", "http://a:0", "http://a:99999", "ftp://a"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="--service"):
        check_service(address)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8000", "https://line-2.plant", "http://[::1]:8000", "http://prüfer"]
)
def test_an_address_is_taken(address: str) -> None:
    check_service(address)
