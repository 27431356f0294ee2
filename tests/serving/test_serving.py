"""The service as a line sees it: real Ray, real MLflow on SQLite, real HTTP."""

import asyncio
import base64
import hashlib
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import httpx
import numpy as np
import pytest
import timm
import torch
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from inpformer.backends.in_torch import InTorch
from inpformer.digests import folder_digest
from inpformer.encoders.encoder import load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.images.frame import Frame
from inpformer.images.opening import MAX_PIXELS
from inpformer.images.tiling import Tiling
from inpformer.judging.detector import CONFIG_FILE, MODEL_FILE, Detector, Prediction
from inpformer.judging.learnt import ALL
from inpformer.judging.outlines import outline
from inpformer.judging.regions import Region, find_regions
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from serving.answers import Asked, RequestError, Verdict
from serving.decoder import HEADER, PICTURE, REQUEST
from serving.inspector import Inspector
from serving.loading import load
from serving.overlay import map_png, overlay_png, small_png
from serving.registry import Registry
from serving.settings import Settings
from serving.webhook import PATH, SECRET_VARIABLE
from tests.conftest import INP_FORMER, MULTI, OWN
from tests.images.deep_files import LZW, pnm, rule, tiff, values
from tests.images.deep_files import png as as_png
from tests.images.test_opening import deep_png, flat, of_scans, tiled_tiff
from tests.serving.model_store import ALIAS, DEADLINE, MODEL, THRESHOLDS, ModelStore, eventually, free_port, samples
from tests.serving.pictures import as_file, picture


def test_without_a_secret_no_webhook_is_expected(service: httpx.Client) -> None:
    answer = service.post(PATH, content=b"{}")
    assert (answer.status_code, SECRET_VARIABLE in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_answers_what_the_detector_says(service: httpx.Client, store: ModelStore, format: str) -> None:
    upload = as_file(picture(), format)
    raw = service.post("/v1/predict?category=nut", content=upload).json()
    form = service.post("/v1/predict?category=nut", files={"image": upload}).json()
    detector = store.detectors[raw["model_version"]]
    with Image.open(io.BytesIO(upload)) as image:
        prediction = detector.predict([image], ["nut"])
        decision = detector.decide(
            float(prediction.scores[0]), prediction.maps[0], prediction.looks[0], image.size, "nut"
        )
    spent = raw.pop("timings_ms")
    assert set(spent) == set(form.pop("timings_ms")) == {"wait", "decode", "model"}
    assert 0 < spent["model"] < 1000 * DEADLINE
    assert raw == form
    assert raw["score"] == pytest.approx(prediction.scores[0], abs=1e-5)
    assert (raw["decision"], raw["threshold"], raw["model_name"]) == ("FAIL", 0.0, MODEL)
    assert [tuple(region["box"]) for region in raw["regions"]] == [region.box for region in decision.regions]
    assert (raw["review_threshold"], raw["p_value"]) == (0.0, 0.01)
    assert set(raw) == {
        *("category", "score", "threshold", "review_threshold", "decision", "p_value", "promised", "regions"),
        *("false_alarm_rate", "percentile", "model_name", "model_version", "model_digest"),
    }
    assert (raw["false_alarm_rate"], raw["percentile"]) == (0.01, 100.0)
    place = store.folder / f"detector-{raw['model_version'] - 1}"
    assert raw["model_digest"] == folder_digest(place)


def score(service: httpx.Client, content: bytes) -> tuple[float, int]:
    """A picture's, and the version that gave it."""
    answer = service.post("/v1/predict?category=nut", content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()["score"], answer.json()["model_version"]


def test_sixteen_bits_are_seen_by_the_white_of_the_version_that_judges_them(
    service: httpx.Client, store: ModelStore
) -> None:
    """Also of one that is promoted while the service runs, though it has the same encoder."""
    before, grey, colour = service.get("/healthz").json()["model_version"], values(60, 90), values(60, 90, 3)
    grey, colour = grey // 16, colour // 16  # 12 bits
    for white in (WHITE, 4095, 1023):
        version = before if white == WHITE else store.publish(white=white)
        eventually(lambda wanted=version: service.get("/healthz").json()["model_version"] == wanted)
        for deep in (grey, colour):
            small = as_file(Image.fromarray(rule(deep, white)))
            files = [small, as_png(deep), tiff(deep, ">"), tiff(deep, compression=LZW), pnm(deep, 4095)]
            assert {score(service, content) for content in files} == {(score(service, small)[0], version)}
    store.promote(before)
    eventually(lambda: service.get("/healthz").json()["model_version"] == before)
    small = as_file(Image.fromarray(rule(grey, WHITE)))
    assert score(service, as_png(grey)) == score(service, small)
    for version in set(store.detectors) - {before}:
        del store.detectors[version]


def test_the_largest_of_sixteen_bits_can_be_decoded_in_the_memory_of_a_decoder() -> None:
    deep = np.zeros((8000, 8000, 3), np.uint16)
    content = pnm(deep)
    request = REQUEST.pack(len(content), 4095) + content
    found = subprocess.run([sys.executable, "-m", "serving.decoder"], input=request, capture_output=True, check=True)
    kind, *size = HEADER.unpack(found.stdout[: HEADER.size])
    assert (kind, size, len(found.stdout)) == (PICTURE, [8000, 8000], HEADER.size + 3 * 8000 * 8000)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_takes_every_colour_mode(service: httpx.Client, store: ModelStore, mode: str) -> None:
    upload = as_file(picture().convert("L").convert(mode))
    answer = service.post("/v1/predict?category=bolt", content=upload).json()
    with Image.open(io.BytesIO(upload)) as image:
        score = store.detectors[answer["model_version"]].predict([image], ["nut"]).scores[0]
    assert answer["score"] == pytest.approx(score, abs=1e-5)
    assert (answer["decision"], answer["regions"]) == ("PASS", [])


def test_between_its_thresholds_a_person_is_asked(service: httpx.Client) -> None:
    answer = service.post("/v1/predict?category=pin", content=as_file(picture())).json()
    assert (answer["decision"], answer["threshold"], answer["review_threshold"]) == ("REVIEW", 2.0, 0.0)
    assert 0 < answer["score"] <= 2.0
    assert answer["regions"][0]["peak"] > 0


def test_exif_orientation_is_not_applied(service: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = (as_file(picture(), "JPEG", **options) for options in ({}, {"exif": exif}))
    answers = [service.post("/v1/predict?category=nut", content=upload).json() for upload in (plain, turned)]
    assert answers[0]["score"] == answers[1]["score"]
    assert answers[0]["regions"] == answers[1]["regions"]


def test_map(service: httpx.Client, store: ModelStore) -> None:
    answer = service.post("/v1/predict?category=bolt&map=true", content=as_file(picture())).json()
    drawn = Image.open(io.BytesIO(base64.b64decode(answer["map_png"])))
    anomaly_map = store.detectors[answer["model_version"]].predict([picture()], ["nut"]).maps[0]
    assert (drawn.mode, drawn.size, answer["map_box"]) == ("L", (256, 256), [0, 0, 90, 60])
    np.testing.assert_allclose(np.asarray(drawn), anomaly_map / 4 * 255, atol=0.51)


def test_outlines_and_an_overlay(service: httpx.Client, store: ModelStore) -> None:
    answer = service.post("/v1/predict?category=nut&outlines=true&overlay=true", content=as_file(picture())).json()
    detector = store.detectors[answer["model_version"]]
    found = detector.predict([picture()], ["nut"])
    limits, frame = detector.thresholds["nut"], detector.frame((90, 60))
    regions = find_regions(found.maps[0], limits.threshold, frame)
    outlines = [[list(corner) for corner in outline(region, frame) or []] for region in regions]
    assert [region["outline"] for region in answer["regions"]] == outlines
    drawn = Image.open(io.BytesIO(base64.b64decode(answer["overlay_png"])))
    assert (drawn.mode, drawn.size) == ("RGB", (90, 60))
    wanted = overlay_png(picture(), found.maps[0], limits.threshold, regions, frame)
    assert np.asarray(drawn).tolist() == np.asarray(Image.open(io.BytesIO(base64.b64decode(wanted)))).tolist()
    assert "map_png" not in answer


def test_an_overlay_has_one_scale_on_every_picture() -> None:
    frame = Frame((512, 512), (0.0, 0.0, 512.0, 512.0), (256, 256))
    region = Region((100, 100, 300, 300), 1.0, 1.0, (0, 0), np.ones((1, 1), bool))
    for threshold in (0.2, 5.0):
        anomaly_map = np.zeros((256, 256), np.float32)
        anomaly_map[:, 128:192], anomaly_map[:, 192:] = threshold, 9 * threshold
        made = overlay_png(Image.new("RGB", (512, 512), (100, 100, 100)), anomaly_map, threshold, [region], frame)
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(made)))).astype(int)
        assert drawn[450, 50].tolist() == [100, 100, 100]
        at, twice = drawn[450, 320], drawn[450, 450]  # .35 of orange and .7 of red over the grey
        assert np.abs(at - [154, 109, 65]).max() <= 2
        assert np.abs(twice - [208, 30, 30]).max() <= 2
        assert drawn[100, 200].tolist() == [179, 38, 30]
    large = Frame((8000, 2000), (0.0, 0.0, 8000.0, 2000.0), (256, 1024))
    made = overlay_png(Image.new("RGB", (8000, 2000)), np.zeros((256, 1024), np.float32), 1.0, [], large)
    assert Image.open(io.BytesIO(base64.b64decode(made))).size == (1024, 256)


def test_map_is_clipped() -> None:
    anomaly_map = np.array([[-1, 0, 0.25, 0.5, 1, 3]], np.float32)
    for threshold, levels in ((0.5, [0, 0, 64, 128, 255, 255]), (0.0, [0, 0, 255, 255, 255, 255])):
        drawn = Image.open(io.BytesIO(base64.b64decode(map_png(anomaly_map, threshold))))
        assert np.asarray(drawn).tolist() == [levels]


def test_an_example_is_a_good_part_of_the_version(service: httpx.Client) -> None:
    answer = service.get("/v1/example?category=rivet")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert np.asarray(Image.open(io.BytesIO(answer.content))).tolist() == np.asarray(picture()).tolist()
    assert service.get("/v1/example?category=nut").status_code == 404
    assert service.get("/v1/example?category=none").status_code == 422
    assert Image.open(io.BytesIO(small_png(Image.new("I;16", (4000, 1000)).convert("L")))).size == (512, 128)


def test_a_picture_that_shows_something_else_does_not_pass(service: httpx.Client) -> None:
    ask = "/v1/predict?category="
    usual = service.post(ask + "rivet", content=as_file(picture(77))).json()
    assert (usual["decision"], "doubt" in usual) == ("PASS", False)
    black = as_file(Image.new("RGB", (64, 64)))
    doubted = service.post(ask + "rivet", content=black).json()
    assert (doubted["decision"], doubted["regions"]) == ("REVIEW", [])
    assert doubted["score"] <= doubted["review_threshold"]
    assert doubted["doubt"]["times"] > 1.5
    assert "likelier" not in doubted["doubt"]
    assert "rivet" in doubted["doubt"]["reason"]
    unchecked = service.post(ask + "bolt", content=black).json()
    assert (unchecked["decision"], "doubt" in unchecked) == ("PASS", False)


def test_health_and_page(service: httpx.Client, store: ModelStore) -> None:
    health = service.get("/healthz")
    assert health.status_code == 200
    assert health.json() == {
        "status": "ok",
        "model_name": MODEL,
        "model_alias": ALIAS,
        "model_version": max(store.detectors),
        "categories": ["bolt", "nut", "pin", "rivet"],
        "unchecked": ["bolt", "nut", "pin"],
        "challenged": 1,
        "device": "cpu",
        "backend": "torch",
        "precision": 32,
        "notice": None,
        "promoted": None,
        "drift": None,
        "update_error": None,
    }
    page = service.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text.lower().replace("<!doctype html>", "")  # no resource of another host


GOOD = as_file(picture())
BAD_REQUESTS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "empty": (400, "the upload is empty", {"content": b""}),
    "empty field": (400, "the upload is empty", {"files": {"image": b""}}),
    "no field": (400, "no file in a field named image", {"files": {"picture": GOOD}}),
    "text field": (400, "no file in a field named image", {"data": {"image": "x"}, "files": {"other": GOOD}}),
    "no boundary": (400, "cannot be read", {"content": GOOD, "headers": {"content-type": "multipart/form-data"}}),
    "cut form": (
        400,
        "no file in a field",
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc',
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
    ),
    "sixteen bits and alpha": (400, "more than 8 bits a channel", {"content": deep_png(6, 4)}),
    "thirty-two bits": (400, "more than 8 bits a channel", {"content": as_file(picture().convert("I"), "TIFF")}),
    "no image": (400, "not an image in one of the formats", {"content": b"hello"}),
    "vector": (
        400,
        "not an image in one of the formats",
        {"content": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9"},
    ),
    "truncated": (400, "damaged or truncated", {"content": GOOD[: len(GOOD) // 2]}),
    "flipped bytes": (400, "damaged or truncated", {"content": GOOD[:60] + b"\xff" * 99 + GOOD[159:]}),
    "too large": (413, "larger than the 1 MB", {"content": bytes(2**20 + 1)}),
    "too large, length unknown": (413, "larger than the 1 MB", {"content": iter([bytes(2**19)] * 3)}),
    "many pixels": (413, "pixels", {"content": flat((MAX_PIXELS // 8000 + 1, 8000))}),
    "far too many pixels": (413, "pixels", {"content": flat((20_000, 20_000))}),
    "one row of pixels": (400, "64000000×1 pixels: one side may be", {"content": flat((64_000_000, 1))}),
    "tiles larger than their picture": (413, "pixels", {"content": tiled_tiff(8192)}),
    "hundreds of scans": (413, "has 101 scans", {"content": of_scans(101, picture())}),
    "no time": (422, "deadline_ms", {"content": GOOD, "params": {"category": "nut", "deadline_ms": 0}}),
    "no category": (422, "one of bolt, nut", {"content": GOOD, "params": {}}),
    "unknown category": (
        422,
        "'screw' is unknown to the model: use one of bolt, nut",
        {"content": GOOD, "params": {"category": "screw"}},
    ),
    "odd parameter": (422, "parameter map: ", {"content": GOOD, "params": {"map": "perhaps"}}),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_request_gets_one_sentence(service: httpx.Client, case: str) -> None:
    status, sentence, request = BAD_REQUESTS[case]
    response = service.post("/v1/predict", **{"params": {"category": "nut"}, **request})
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    assert sentence in response.json()["error"]


def test_who_is_in_a_hurry_is_answered_in_time_or_told(service: httpx.Client) -> None:
    answer = service.post("/v1/predict?category=nut&deadline_ms=1", content=GOOD)
    assert (answer.status_code, answer.headers["retry-after"], set(answer.json())) == (504, "1", {"error"})
    assert service.post("/v1/predict?category=nut&deadline_ms=60000", content=GOOD).status_code == 200


def test_health_does_not_wait_in_the_line(service: httpx.Client) -> None:
    def judged(number: int) -> tuple[int, str | None, float]:
        answer = service.post("/v1/predict?category=nut", content=GOOD)
        return answer.status_code, answer.headers.get("retry-after"), time.monotonic()

    with ThreadPoolExecutor(80) as pool:
        answers = [pool.submit(judged, number) for number in range(80)]
        eventually(lambda: any(answer.done() for answer in answers))
        health, ready = service.get("/healthz"), service.get("/readyz")
        asked = time.monotonic()
        found = [answer.result() for answer in answers]
    assert (health.status_code, ready.status_code in (200, 503)) == (200, True)
    assert max(end for _, _, end in found) > asked  # while others still waited
    assert {status for status, _, _ in found} <= {200, 503}
    assert [after for status, after, _ in found if status == 503 and not int(after or 0)] == []
    assert service.get("/readyz").json() == {"status": "ready"}


def test_the_answer_repeats_part_and_line(service: httpx.Client) -> None:
    named = {"category": "bolt", "part": "A 17/ä", "line": "press-2"}
    answer = service.post("/v1/predict", params=named, content=GOOD).json()
    assert {name: answer[name] for name in named} == named
    for wrong in ({"line": "a b"}, {"line": "x" * 65}, {"part": "x" * 201}):
        refused = service.post("/v1/predict", params=wrong, content=GOOD)
        assert (refused.status_code, next(iter(wrong)) in refused.json()["error"]) == (422, True)


def test_metrics_count_what_was_decided(service: httpx.Client) -> None:
    before = samples(service)
    asked = {"category": "bolt", "line": "metrics"}
    assert service.post("/v1/predict", params=asked, content=GOOD).json()["decision"] == "PASS"
    assert service.post("/v1/predict", params=asked | {"category": "nut"}, content=GOOD).json()["decision"] == "FAIL"
    assert service.post("/v1/predict", params=asked | {"category": "none"}, content=GOOD).status_code == 422
    after = samples(service)
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    assert grown[("inpformer_decisions_total", ("bolt", "PASS", "metrics"))] == 1
    assert grown[("inpformer_decisions_total", ("nut", "FAIL", "metrics"))] == 1
    assert grown[("inpformer_requests_total", ("200",))] == 2
    assert grown[("inpformer_requests_total", ("422",))] == 1
    assert grown[("inpformer_request_seconds_count", ())] == 3
    assert grown[("inpformer_phase_seconds_count", ("model",))] == 2
    assert grown[("inpformer_score_to_threshold_count", ("bolt",))] == 1
    assert after[("inpformer_requests_under_way", ())] == after[("inpformer_line_length", ())] == 0
    assert after[("inpformer_model_version", ())] == service.get("/healthz").json()["model_version"]


def test_who_goes_in_the_middle_of_an_upload_is_counted_as_gone(service: httpx.Client) -> None:
    under_way = ("inpformer_requests_under_way", ())

    def counted(status: str) -> float:
        found: dict[Any, float] = eventually(lambda: (found := samples(service)) and under_way in found and found)
        return found.get(("inpformer_requests_total", (status,)), 0)

    gone, failed = counted("499"), counted("500")
    with socket.create_connection((service.base_url.host, service.base_url.port or 80)) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nbegun")
        eventually(lambda: samples(service).get(under_way))
    eventually(lambda: counted("499") > gone)  # more, if one of a test before went as late
    assert counted("500") == failed


def test_a_client_of_triton_is_answered(service: httpx.Client, store: ModelStore) -> None:
    """By the client's own library: health, metadata, and pictures as bytes and in JSON."""
    pictures = [picture(seed) for seed in (0, 1)]
    image = triton.InferInput("image", [2], "BYTES")
    category = triton.InferInput("category", [1], "BYTES")
    category.set_data_from_numpy(np.array([b"nut"], dtype=np.object_))
    with closing(triton.InferenceServerClient(service.base_url.netloc.decode())) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        described = client.get_model_metadata(MODEL)
        image.set_data_from_numpy(np.array([as_file(one) for one in pictures], dtype=np.object_))
        answer = client.infer(MODEL, [image, category], request_id="7", parameters={"line": "press-2"})
        with pytest.raises(InferenceServerException) as refused:
            client.infer("another", [image, category])
    version = int(answer.get_response()["model_version"])
    scores = store.detectors[version].predict(pictures, ["nut", "nut"]).scores
    np.testing.assert_allclose(answer.as_numpy("score"), scores, atol=1e-5)
    assert answer.as_numpy("decision").tolist() == ["FAIL", "FAIL"]
    verdicts = [json.loads(each) for each in answer.as_numpy("verdict")]
    assert [(each["line"], each["category"]) for each in verdicts] == [("press-2", "nut")] * 2
    assert (answer.get_response()["id"], described["versions"]) == ("7", [str(version)])
    assert {each["name"] for each in described["outputs"]} >= {"score", "decision", "verdict"}
    assert refused.value.status() == "404"


def test_what_a_threshold_stands_on_can_be_asked(service: httpx.Client) -> None:
    found = service.get("/v1/calibration?category=pin").json()
    wanted = THRESHOLDS["pin"]
    assert (found["category"], found["threshold"], found["review_threshold"]) == ("pin", 2.0, 0.0)
    assert (found["scores"], found["parts"], found["promised"]) == (list(wanted.scores), 99, False)
    assert (found["false_alarm_rate"], found["confidence"]) == (0.01, None)
    refused = service.get("/v1/calibration?category=none")
    assert (refused.status_code, list(refused.json())) == (422, ["error"])


def test_one_wrong_picture_of_several_is_the_answer(service: httpx.Client) -> None:
    data = [base64.b64encode(each).decode() for each in (GOOD, b"no picture")]
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [2], "data": data}]
    asked = {"inputs": inputs, "parameters": {"category": "nut"}}
    refused = service.post(f"/v2/models/{MODEL}/infer", json=asked)
    assert (refused.status_code, list(refused.json())) == (400, ["error"])
    asked["parameters"] = {"category": "unknown"}
    assert service.post(f"/v2/models/{MODEL}/infer", json=asked).status_code == 422
    assert service.post(f"/v2/models/{MODEL}/infer", content=bytes(2**20 + 1)).status_code == 413


def test_unknown_route_and_method_get_json(service: httpx.Client) -> None:
    assert (service.get("/nowhere").status_code, service.get("/v1/predict").status_code) == (404, 405)
    assert service.get("/nowhere").json() == {"error": "GET /nowhere: Not Found."}
    assert service.post("/v1/predict/", content=GOOD).status_code == 404  # not sent elsewhere


def test_what_a_client_said_comes_back_in_part(service: httpx.Client) -> None:
    data = [base64.b64encode(GOOD).decode()]
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
    asked = {"inputs": [image], "parameters": {"category": "x" * 500_000}}
    refused = service.post(f"/v2/models/{MODEL}/infer", json=asked)
    assert (refused.status_code, len(refused.content) < 1000) == (422, True)


def test_swap_refuses_and_mixes_nothing(service: httpx.Client, store: ModelStore) -> None:
    upload = as_file(picture())
    old = service.get("/healthz").json()["model_version"]
    answers: list[httpx.Response] = []
    seen_by: list[int] = []

    def line(number: int) -> None:
        def swapped() -> bool:
            answers.append(service.post("/v1/predict?category=nut", content=upload))
            return answers[-1].is_error or answers[-1].json()["model_version"] != old

        eventually(swapped)
        seen_by.append(number)

    with ThreadPoolExecutor(4) as pool:
        lines = [pool.submit(line, number) for number in range(4)]
        eventually(lambda: len(answers) >= 8)
        new = store.publish()
        for each in lines:
            each.result()
    assert {answer.status_code for answer in answers} == {200}
    scores = {
        version: float(store.detectors[version].predict([picture()], ["nut"]).scores[0]) for version in (old, new)
    }
    assert abs(scores[old] - scores[new]) > 1e-3
    assert {answer.json()["model_version"] for answer in answers} == {old, new}
    for answer in answers:
        assert answer.json()["score"] == pytest.approx(scores[answer.json()["model_version"]], abs=1e-5)


def cut_short(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes((folder / MODEL_FILE).read_bytes()[:100])


def make_nan(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / MODEL_FILE)
    save_file({name: tensor.fill_(torch.nan) for name, tensor in tensors.items()}, folder / MODEL_FILE)
    update_sha256(folder)


def make_another(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / MODEL_FILE)
    save_file({name: tensor.neg() for name, tensor in tensors.items()}, folder / MODEL_FILE)
    update_sha256(folder)


def update_sha256(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    config |= {"model_sha256": hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest(), **changed}
    (folder / CONFIG_FILE).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [(cut_short, "cannot be loaded"), (make_nan, "not finite"), (make_another, "scores a picture of rivet")],
)
def test_bad_version_is_reported_and_not_served(
    service: httpx.Client, store: ModelStore, break_it: Callable[[Path], None], reason: str
) -> None:
    good = service.get("/healthz").json()["model_version"]
    bad = store.publish(break_it)
    health = eventually(lambda: (h := service.get("/healthz").json())["update_error"] and h)
    assert health["model_version"] == good
    assert f"version {bad} of {MODEL}" in health["update_error"]
    assert reason in health["update_error"]
    answer = service.post("/v1/predict?category=nut", content=GOOD)
    assert (answer.status_code, answer.json()["model_version"]) == (200, good)
    store.promote(good)
    eventually(lambda: service.get("/healthz").json()["update_error"] is None)
    del store.detectors[bad]


GREY = Image.new("RGB", (64, 64), "grey")


def overflow(folder: Path) -> None:
    """Makes the projection so large that what `picture` shows overflows in the model, and what GREY shows does not."""
    from safetensors.torch import load_file, save_file

    detector = Detector.load(folder)
    wants = detector.method.wants(detector.settings, detector.encoder.shape)
    grey, shown = wants.of(detector.encoder.encode([GREY, picture()]))[0]
    mean = grey.mean(0)
    usual, far = ((tokens - mean).abs().amax(0) for tokens in (grey, shown))
    channel = int((far / usual.clamp(min=1e-6)).argmax())  # there, about 150 times as far from the mean
    tensors = load_file(folder / MODEL_FILE)
    (name,) = (name for name in tensors if name.endswith("projection.matrix"))
    matrix = torch.zeros_like(tensors[name])
    matrix[channel, 0] = 1e18 / usual[channel]
    save_file(tensors | {name: matrix, name.replace("matrix", "mean"): mean}, folder / MODEL_FILE)
    update_sha256(folder, challenge_sha256=None)  # its pictures would find it


def test_a_score_that_is_no_number_is_an_error_and_a_fail(service: httpx.Client, store: ModelStore) -> None:
    good = service.get("/healthz").json()["model_version"]
    broken = store.publish(overflow)
    eventually(lambda: service.get("/healthz").json()["model_version"] == broken)
    answer = service.post("/v1/predict?category=bolt", content=GOOD)  # where every number is a PASS
    assert (answer.status_code, answer.json()["decision"], set(answer.json())) == (500, "FAIL", {"decision", "error"})
    assert f"version {broken} of {MODEL} gave no number" in answer.json()["error"]
    grey = service.post("/v1/predict?category=bolt", content=as_file(GREY))
    assert (grey.status_code, grey.json()["decision"]) == (200, "PASS")
    store.promote(good)
    eventually(lambda: service.get("/healthz").json()["model_version"] == good)
    del store.detectors[broken]


def test_a_picture_of_too_many_tiles_is_refused(service: httpx.Client, store: ModelStore) -> None:
    good = service.get("/healthz").json()["model_version"]
    tiled = store.publish(tiling=Tiling(16))
    eventually(lambda: service.get("/healthz").json()["model_version"] == tiled)
    answer = service.post("/v1/predict?category=bolt", content=flat((600, 600)))
    assert (answer.status_code, set(answer.json())) == (413, {"error"})
    assert "2,500 tiles of 16 pixels" in answer.json()["error"]
    assert service.post("/v1/predict?category=bolt", content=GOOD).json()["decision"] == "PASS"
    store.promote(good)
    eventually(lambda: service.get("/healthz").json()["model_version"] == good)
    del store.detectors[tiled]


def test_the_first_judgements_of_a_version_take_turns_with_real_ones(
    store: ModelStore, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Lock()
    seen: list[tuple[bool, int]] = []
    predict = Detector.predict

    def watched(self: Detector, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        seen.append((turn.locked(), len(images)))
        return predict(self, images, categories)

    monkeypatch.setattr(Detector, "predict", watched)
    version = store.register(detector)
    load(Registry(store.uri), Settings(model=MODEL, tracking_uri=store.uri), version, turn)
    assert seen == [(True, 1)] * len(detector.thresholds)  # one by one, so that real ones come between
    assert not turn.locked()


def test_a_picture_whose_client_went_is_measured_nevertheless(
    store: ModelStore, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = store.client.get_model_version_by_alias(MODEL, ALIAS).version
    store.promote(store.register(detector))
    inspector = Inspector(Settings(model=MODEL, tracking_uri=store.uri, poll_seconds=3600))
    store.promote(int(good))
    predict, begun, goes_on = Detector.predict, [Event(), Event()], [Event(), Event()]
    calls = iter(zip(begun, goes_on, strict=True))

    def slowly(self: Detector, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        mine, gate = next(calls)
        mine.set()
        assert gate.wait(DEADLINE)
        return predict(self, images, categories)

    monkeypatch.setattr(Detector, "predict", slowly)
    category = next(iter(detector.thresholds))

    async def asked() -> tuple[list[Verdict] | RequestError, list[Verdict] | RequestError]:
        gone = asyncio.create_task(inspector.judge([GOOD], [Asked(category)], DEADLINE))
        assert await asyncio.to_thread(begun[0].wait, DEADLINE)
        judged = asyncio.create_task(inspector.judge([GOOD], [Asked(category)], DEADLINE))
        gone.cancel()
        await asyncio.sleep(0.6)
        goes_on[0].set()
        assert await asyncio.to_thread(begun[1].wait, DEADLINE)
        refused = await inspector.judge([GOOD], [Asked(category)], 0.5)
        goes_on[1].set()
        return refused, await judged

    with closing(inspector._decoders):
        refused, judged = asyncio.run(asked())
    assert isinstance(refused, RequestError)
    assert (refused.status, (refused.retry_after or 0) >= 1) == (503, True)
    assert isinstance(judged, list)
    assert len(judged) == 1


def test_a_replica_whose_gpu_failed_is_not_ready_and_is_replaced(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = Inspector(Settings(model=MODEL, tracking_uri=store.uri, poll_seconds=3600))

    def fail(*_: object) -> Prediction:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")

    async def asked() -> tuple[list[Verdict] | RequestError, bool]:
        await inspector.check_health()
        assert await inspector.ready()
        monkeypatch.setattr(Detector, "predict", fail)
        return await inspector.judge([GOOD], [Asked("bolt")], DEADLINE), await inspector.ready()

    with closing(inspector._decoders):
        refused, ready = asyncio.run(asked())
        assert isinstance(refused, RequestError)
        assert (refused.status, refused.decision, ready) == (503, None, False)
        assert refused.retry_after
        with pytest.raises(RuntimeError, match="illegal memory access"):
            asyncio.run(inspector.check_health())


def test_where_several_at_a_time_are_faster_those_who_wait_are_judged_together(
    store: ModelStore, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InTorch, "at_a_time", 4)  # as a GPU has it, of more
    files = [as_file(picture(seed)) for seed in range(6)]
    names = [sorted(detector.thresholds)[number % 2] for number in range(6)]
    good = store.client.get_model_version_by_alias(MODEL, ALIAS).version
    store.promote(store.register(detector))
    inspector = Inspector(Settings(model=MODEL, tracking_uri=store.uri, poll_seconds=3600))
    store.promote(int(good))
    predict, begun, goes_on = Detector.predict, Event(), Event()
    turns: list[int] = []

    def slowly(self: Detector, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        turns.append(len(images))
        begun.set()
        assert goes_on.wait(DEADLINE)
        return predict(self, images, categories)

    monkeypatch.setattr(Detector, "predict", slowly)

    async def all_at_once() -> list[Verdict] | RequestError:
        judging = asyncio.create_task(inspector.judge(files, [Asked(name) for name in names], DEADLINE))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        while len(inspector._turns) < 5:
            await asyncio.sleep(0.01)
        goes_on.set()
        return await judging

    with closing(inspector._decoders):
        found = asyncio.run(all_at_once())
    assert isinstance(found, list)
    assert turns == [1, 4, 1]
    for verdict, file, name in zip(found, files, names, strict=True):
        score = float(predict(detector, [detector.open(file)], [name]).scores[0])
        assert (verdict.category, verdict.score) == (name, pytest.approx(score, rel=1e-4))


def test_pictures_of_one_request_are_judged_by_one_version(
    store: ModelStore, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = store.client.get_model_version_by_alias(MODEL, ALIAS).version
    first, second = store.register(detector), store.register(detector)
    store.promote(first)
    inspector = Inspector(Settings(model=MODEL, tracking_uri=store.uri, poll_seconds=3600))
    predict, begun, goes_on = Detector.predict, Event(), Event()

    def slowly(self: Detector, images: Sequence[Image.Image], categories: Sequence[str]) -> Prediction:
        if not begun.is_set():
            begun.set()
            assert goes_on.wait(DEADLINE)
        return predict(self, images, categories)

    loaded = load(inspector._registry, inspector._settings, second, Lock(), inspector._served.detector.encoder)
    monkeypatch.setattr(Detector, "predict", slowly)
    asked = Asked(next(iter(detector.thresholds)))

    async def swapped() -> tuple[list[Verdict] | RequestError, list[Verdict] | RequestError]:
        judging = asyncio.create_task(inspector.judge([GOOD] * 3, [asked] * 3, DEADLINE))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        inspector._served = loaded
        goes_on.set()
        return await judging, await inspector.judge([GOOD], [asked], DEADLINE)

    with closing(inspector._decoders):
        before, after = asyncio.run(swapped())
    store.promote(int(good))
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert [each.model_version for each in (*before, *after)] == [first, first, first, second]


def vit_detector(weights: Path) -> Detector:
    """An untrained detector on the timm ViT whose weights the file holds."""
    encoder = load_encoder(EncoderSettings("vit_tiny_patch16_224", str(weights), None, 32, 32, levels=None))
    own = replace(OWN, grid=None, channels=None)
    return Detector(encoder, INP_FORMER, own, {ALL: INP_FORMER.make(own, encoder.shape)}, MULTI, THRESHOLDS)


def vit_weights(file: Path, seed: int) -> Path:
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), file)
    return file


def test_each_version_gets_the_encoder_that_it_was_trained_with(store: ModelStore, tmp_path: Path) -> None:
    first, second = (vit_weights(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    of_first, again, of_second = (store.register(vit_detector(file)) for file in (first, first, second))
    moved = first.rename(tmp_path / "moved.safetensors")  # as on another machine, hence the setting
    registry = Registry(store.uri)
    settings = Settings(model=MODEL, tracking_uri=store.uri, encoder_weights=str(moved))
    served = load(registry, settings, of_first, Lock())
    assert served.notice is None
    held = served.detector.encoder
    shared = load(registry, settings, again, Lock(), held)
    assert shared.detector.encoder is held  # one in memory, and nothing read again
    other = load(registry, settings, of_second, Lock(), held)
    assert other.detector.encoder.digest != held.digest
    assert other.detector.encoder.settings.weights == str(second)
    assert str(moved) in (other.notice or "")
    bundled = load(registry, settings, max(store.detectors), Lock(), held)
    assert bundled.detector.encoder.digest == store.encoder.digest
    second.unlink()
    with pytest.raises(
        UserError, match=rf"version {of_second} of {MODEL} cannot be loaded: neither {moved} .*{second}"
    ):
        load(registry, settings, of_second, Lock(), held)


def test_an_encoder_of_another_view_is_not_shared(store: ModelStore, tmp_path: Path) -> None:
    detector = vit_detector(vit_weights(tmp_path / "vit.safetensors", 0))
    held = load_encoder(replace(detector.encoder.settings, resize=48, crop=32))
    assert held.digest == detector.encoder.digest
    loaded = Registry(store.uri).load(MODEL, store.register(detector), encoder=held)
    assert loaded.detector.encoder.settings.resize == 32


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_replica_with_a_gpu_computes_on_it(store: ModelStore, detector: Detector, device: str) -> None:
    settings = Settings(model=MODEL, tracking_uri=store.uri, gpus=float(device == "cuda"))
    served = load(Registry(store.uri), settings, store.register(detector), Lock())
    assert served.detector.encoder.device.type == device
    prediction = served.detector.predict([picture()], ["nut"])
    np.testing.assert_allclose(prediction.scores, detector.predict([picture()], ["nut"]).scores, rtol=1e-3)


def test_reads_what_the_pipeline_registers(
    store: ModelStore, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.chdir(tmp_path)
    detector.save(tmp_path / "detector")
    version = register(Run.open("key", "run", {}, {}), tmp_path / "detector", "piped", Evidence())
    monkeypatch.setenv("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "false")
    registry = Registry(store.uri)
    assert registry.version("piped", "challenger") == int(version)
    loaded = registry.load("piped", int(version)).detector
    np.testing.assert_array_equal(
        loaded.predict([picture()], ["nut"]).maps, detector.predict([picture()], ["nut"]).maps
    )


def test_registry_says_what_is_missing(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")  # the pipeline's, which is more patient
    registry = Registry(store.uri)
    with pytest.raises(UserError, match=r"models:/inpformer@nobody is not in the registry .*pipelines\.promote"):
        registry.version(MODEL, "nobody")
    with pytest.raises(UserError, match="models:/unknown@champion is not in the registry"):
        registry.version("unknown", ALIAS)
    with pytest.raises(UserError, match="version 99 of inpformer cannot be fetched"):
        registry.load(MODEL, 99)
    with pytest.raises(UserError, match=r"none\.db is no MLflow database"):
        Registry(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(UserError, match=r"http://127.0.0.1:\d+ does not answer .*refused"):
        Registry(f"http://me:secret@127.0.0.1:{free_port()}").version(MODEL, ALIAS)
