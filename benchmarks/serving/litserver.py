"""The process that `benchmarks.serving.peer` starts: python -m benchmarks.serving.litserver FOLDER PORT."""

import sys
from pathlib import Path
from typing import Annotated, Any

import litserve  # type: ignore[import-not-found]
import torch
from fastapi import Body

from benchmarks.serving.measure import bare_score
from inpformer.judging.detector import Detector


class Inspector(litserve.LitAPI):  # type: ignore[misc]
    """The bare loop's picture, one at a time."""

    def setup(self, device: str) -> None:
        """Loads the detector in the process that judges."""
        torch.set_num_threads(1)
        self.detector = Detector.load(Path(sys.argv[1]))

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> bytes:
        """An image file."""
        return request

    def predict(self, content: bytes) -> float:
        """Its score."""
        return bare_score(self.detector, content)

    def encode_response(self, score: float) -> dict[str, Any]:
        """As `measure.ask` reads it."""
        return {"score": score, "model_version": 1}


if __name__ == "__main__":
    server = litserve.LitServer(Inspector(), accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
