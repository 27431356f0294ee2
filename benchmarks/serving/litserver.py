"""The process that `benchmarks.serving.peer` starts."""

from pathlib import Path
from typing import Annotated, Any

import litserve  # type: ignore[import-not-found]
import torch
from fastapi import Body

from benchmarks.serving.measure import bare_score
from inpformer.judging.detector import Detector


class Inspector(litserve.LitAPI):  # type: ignore[misc]
    """The bare loop's picture, one at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, device: str) -> None:
        """Loads the detector in the process that judges."""
        torch.set_num_threads(1)
        self.detector = Detector.load(self.folder)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> bytes:
        """An image file."""
        return request

    def predict(self, content: bytes) -> float:
        """Its score."""
        return bare_score(self.detector, content)

    def encode_response(self, score: float) -> dict[str, Any]:
        """As `measure.ask` reads it."""
        return {"score": score, "model_version": 1}


def serve(folder: Path, port: int) -> None:
    """Until it is stopped."""
    server = litserve.LitServer(Inspector(folder), accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
