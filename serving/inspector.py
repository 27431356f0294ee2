"""The model behind the service: holds one version of the detector, judges images with it and follows the alias."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from inpformer.errors import BrokenScoreError, UserError
from inpformer.images.opening import TooLargeError
from inpformer.judging import plausibility
from inpformer.judging.detector import Detector, Prediction
from inpformer.judging.outlines import outline
from serving import record
from serving.answers import (
    RESTART,
    Asked,
    Calibration,
    Decided,
    DefectRegion,
    Doubt,
    Health,
    Promotion,
    RequestError,
    Timings,
    Verdict,
    too_late,
)
from serving.decoding import Decoders
from serving.line import Line
from serving.loading import Served, load, load_first
from serving.memory import keep_freed
from serving.metrics import JudgingMetrics, OfReplica, of_replica
from serving.overlay import map_png, overlay_png, small_png
from serving.recent import Recent
from serving.record import LastStep
from serving.registry import Registry
from serving.settings import Settings
from serving.turns import Turns

# A version that could not be loaded is tried again after this long, not at every look at the registry.
RETRY_SECONDS = 60.0
# So often the record is read, which grows: a few hundred kilobytes after a thousand entries.
RECORD_SECONDS = 60.0
DECODERS = 2
MOST_TOGETHER = 8
MOST_SCORES = 1000  # in one answer
log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Refused:
    """A version that could not be loaded, why, and when to try again (of `time.monotonic`)."""

    version: int
    reason: str
    retry_at: float


@dataclass(frozen=True)
class Picture:
    """One that waits for the model: decoded in `decoding` seconds, of a request that came at `came`."""

    served: Served
    image: Image.Image
    category: str
    asked: Asked
    views: int
    came: float
    decoding: float


class Inspector:
    """A replica that holds the model. Raises UserError from its constructor if the first version cannot be loaded and
    none is kept on this machine; later ones that cannot are reported by `health`, and the one before stays.
    """

    def __init__(self, settings: Settings) -> None:
        keep_freed()
        torch.set_num_threads(settings.cpus)
        self._settings = settings
        self._registry = Registry(settings.tracking_uri)
        if settings.gpus and not torch.cuda.is_available():
            log.warning(
                "the setting gpus is %g, but torch sees no GPU here: the model computes on the CPU", settings.gpus
            )
        # One inference at a time uses all of the replica's threads, or its GPU; several would only take turns, each
        # with memory of its own.
        self._one_inference = threading.Lock()
        self._turns: Turns[Picture, Verdict] = Turns(self._judge_together, self._took)
        self._line = Line()
        self._metrics = JudgingMetrics()
        self._recent = Recent()
        self._decoders = Decoders(DECODERS)
        self._served, self._update_error = load_first(self._registry, settings, self._one_inference)
        # Where several at a time are faster than one after the other, on a GPU, those who wait are judged together.
        self._together = min(MOST_TOGETHER, self._served.detector.backend.at_a_time)
        # Pictures that are held decoded, of up to 192 MB: those that are being decoded, those that have the model, and
        # one that is next.
        self._decoded = asyncio.Semaphore(DECODERS + self._together + 1)
        self._broken: str | None = None
        self._drift: str | None = None
        self._step: LastStep | None = None
        self._look_again_at = time.monotonic()
        self._refused: Refused | None = None
        self._look = threading.Event()
        threading.Thread(target=self._follow_alias, name="follow-alias", daemon=True).start()

    async def judge(
        self, uploads: Sequence[bytes], asked: Sequence[Asked], seconds: float
    ) -> list[Verdict] | RequestError:
        """The verdicts on the image files of one request, all by one version, in `seconds` or not at all. What is wrong
        with the request is returned, not raised: Serve would log every bad upload as a crash.
        """
        served = self._served
        judging = [asyncio.create_task(self._judge(served, *one, seconds)) for one in zip(uploads, asked, strict=True)]
        try:
            return await asyncio.gather(*judging)
        except RequestError as error:
            return error
        except TimeoutError:
            return too_late(seconds)
        finally:
            for task in judging:  # where one of them was refused, or nobody waits any more
                task.cancel()

    async def _judge(self, served: Served, upload: bytes, asked: Asked, seconds: float) -> Verdict:
        with self._line.place(seconds):
            async with asyncio.timeout(seconds) as limit:
                verdict = await self._judge_by(served, upload, asked, limit)
        self._metrics.judged(verdict)
        self._recent.judged(verdict)
        return verdict

    async def _judge_by(self, served: Served, upload: bytes, asked: Asked, limit: asyncio.Timeout) -> Verdict:
        category = _category(served.detector, asked.category)
        came = time.perf_counter()
        async with self._decoded:
            begun = time.perf_counter()
            image = await self._decoders.decode(upload, served.detector.encoder.settings.white)
            decoding = time.perf_counter() - begun
            end = limit.when()
            assert end is not None
            try:
                views = served.detector.count_views(image.size)
            except TooLargeError as error:
                raise RequestError(413, str(error)) from None
            self._line.refuse_long(views, end - asyncio.get_running_loop().time())
            picture = Picture(served, image, category, asked, views, came, decoding)
            return await self._turns.run(picture, (served.version, views), self._together if views == 1 else 1)

    def _judge_together(self, pictures: Sequence[Picture]) -> list[Verdict | Exception]:
        """In the model's thread: those of one turn, for the same version."""
        served, begun = pictures[0].served, time.perf_counter()
        try:
            with self._one_inference:
                prediction = served.detector.predict(
                    [one.image for one in pictures], [one.category for one in pictures]
                )
            return [self._judged(one, prediction, number, begun) for number, one in enumerate(pictures)]
        except torch.AcceleratorError as error:  # what CUDA says once it says of everything
            self._broken = f"the GPU failed ({str(error).splitlines()[0]})"
            log.error("%s: this replica is replaced", self._broken)
            reason = f"{self._broken}: the model is being restarted."
            return [RequestError(503, reason, retry_after=RESTART) for _ in pictures]

    def _took(self, seconds: float, pictures: Sequence[Picture]) -> None:
        self._line.took(seconds / len(pictures), pictures[0].views)

    def _judged(self, picture: Picture, prediction: Prediction, number: int, begun: float) -> Verdict | Exception:
        try:
            return self._verdict(picture, prediction, number, begun)
        except BrokenScoreError as error:
            log.error("version %d, category %s: %s", picture.served.version, picture.category, error)
            name = f"version {picture.served.version} of {self._settings.model}"
            reason = f"{name} gave no number for this image, so the part counts as FAIL: promote another version."
            return RequestError(500, reason, "FAIL")
        except Exception as error:  # of this picture: the others of its turn have their verdicts
            return error

    def _verdict(self, picture: Picture, prediction: Prediction, number: int, begun: float) -> Verdict:
        """`number` is the picture's in the prediction, which was begun then."""
        served, image, asked = picture.served, picture.image, picture.asked
        score, anomaly_map = float(prediction.scores[number]), prediction.maps[number]
        decision = served.detector.decide(score, anomaly_map, prediction.looks[number], image.size, picture.category)
        limits, frame = decision.threshold, served.detector.frame(image.size)
        verdict = Verdict(
            category=picture.category,
            score=score,
            threshold=limits.threshold,
            review_threshold=limits.review_threshold,
            decision=decision.decision,
            doubt=doubt_of(decision.doubt),
            p_value=decision.p_value,
            promised=limits.promised,
            false_alarm_rate=limits.false_alarm_rate,
            confidence=limits.confidence,
            percentile=limits.percentile(score),
            regions=[
                DefectRegion(
                    box=region.box,
                    area=region.area,
                    peak=region.peak,
                    outline=outline(region, frame) if asked.with_outlines else None,
                )
                for region in decision.regions
            ],
            model_name=self._settings.model,
            model_version=served.version,
            model_digest=served.digest,
            timings_ms=Timings.of(
                begun - picture.came - picture.decoding, picture.decoding, time.perf_counter() - begun
            ),
            part=asked.part,
            line=asked.line,
        )
        if asked.with_map:
            verdict.map_png = map_png(anomaly_map, limits.threshold)
            verdict.map_box = frame.box
        if asked.with_overlay:
            verdict.overlay_png = overlay_png(image, anomaly_map, limits.threshold, decision.regions, frame)
        return verdict

    async def metrics(self) -> OfReplica:
        """What this replica counted."""
        self._metrics.stands(self._line.length, self._served.version, self._update_error is not None)
        return of_replica(self._metrics.registry)

    async def recent(self) -> list[Decided]:
        """The last decisions of this replica."""
        return self._recent.all()

    async def ready(self) -> bool:
        """Whether another picture would be let in."""
        return not self._line.is_full and self._broken is None

    async def check_health(self) -> None:
        """Asked by Serve, which replaces a replica that raises."""
        if self._broken is not None:
            raise RuntimeError(self._broken)

    async def health(self) -> Health:
        """What is being served, and what became of the last attempt to replace it."""
        served = self._served
        return Health(
            status="ok",
            model_name=self._settings.model,
            model_alias=self._settings.alias,
            model_version=served.version,
            categories=sorted(served.detector.thresholds),
            unchecked=served.detector.unchecked,
            challenged=served.challenged,
            device=served.detector.encoder.device.type,
            backend=served.detector.backend.name,
            precision=served.detector.backend.precision,
            notice=served.notice,
            promoted=_promoted(self._step, served.version),
            drift=self._drift,
            update_error=self._update_error,
        )

    async def calibration(self, category: str | None) -> Calibration | RequestError:
        """What the thresholds of a category stand on; as in `judge`, what is wrong with the request is returned."""
        served = self._served
        try:
            name = _category(served.detector, category)
        except RequestError as error:
            return error
        limits = served.detector.thresholds[name]
        chosen = np.linspace(0, len(limits.scores) - 1, min(len(limits.scores), MOST_SCORES)).round().astype(int)
        return Calibration(
            category=name,
            threshold=limits.threshold,
            review_threshold=limits.review_threshold,
            false_alarm_rate=limits.false_alarm_rate,
            confidence=limits.confidence,
            promised=limits.promised,
            parts=len(limits.scores),
            scores=[limits.scores[number] for number in chosen],
            model_version=served.version,
        )

    async def example(self, category: str | None) -> bytes | RequestError:
        """A good part of a category that goes with the version, as a small PNG; as in `judge`, what is wrong with the
        request is returned.
        """
        detector = self._served.detector
        try:
            name = _category(detector, category)
            kept = next((one for one in detector.challenges if one.category == name), None)
            if kept is None:
                raise RequestError(404, f"no picture of a good part of {name} goes with this version.")
        except RequestError as error:
            return error
        return await asyncio.to_thread(lambda: small_png(detector.open(kept.content, "the picture of a good part")))

    async def look(self) -> None:
        """Looks at the alias now."""
        self._look.set()

    def _follow_alias(self) -> None:
        while True:
            self._look.wait(self._settings.poll_seconds)
            self._look.clear()
            try:
                self._update()
                self._look_at_record()
                self._update_error = None
            except Exception as error:  # whatever it is, the version that is loaded keeps serving
                reason = str(error) or type(error).__name__
                if reason != self._update_error:
                    log.warning("version %d keeps serving: %s", self._served.version, reason)
                self._update_error = reason

    def _look_at_record(self) -> None:
        """Says where the alias is not what the record of promotions left: once a minute, and of each new version once
        its promotion had the time to be recorded.
        """
        if self._settings.alias != record.CHAMPION or time.monotonic() < self._look_again_at:
            return
        step = self._registry.last_step(self._settings.model)
        drift = None if step is None else step.drift(self._served.version)
        if drift and drift != self._drift:
            log.warning("%s", drift)
        self._step, self._drift = step, drift
        self._look_again_at = time.monotonic() + RECORD_SECONDS

    def _update(self) -> None:
        version = self._registry.version(self._settings.model, self._settings.alias)
        if version == self._served.version:
            return
        if self._refused and self._refused.version == version and time.monotonic() < self._refused.retry_at:
            raise UserError(self._refused.reason)
        try:
            encoder = self._served.detector.encoder
            served = load(self._registry, self._settings, version, self._one_inference, encoder)
        except Exception as error:
            self._refused = Refused(version, str(error), time.monotonic() + RETRY_SECONDS)
            raise
        log.info("version %d replaces version %d", version, self._served.version)
        self._served = served
        self._look_again_at = time.monotonic() + self._settings.poll_seconds


def doubt_of(found: plausibility.Doubt | None) -> Doubt | None:
    """As the answer has it."""
    return None if found is None else Doubt(reason=found.reason, times=found.times, likelier=found.likelier)


def _promoted(step: LastStep | None, version: int) -> Promotion | None:
    """Of the version, where the record says so."""
    known = step is not None and step.version == str(version) and step.by and step.at
    return Promotion(by=step.by, at=step.at) if step is not None and known else None


def _category(detector: Detector, asked: str | None) -> str:
    known = sorted(detector.thresholds)
    if asked is None and len(known) == 1:
        return known[0]
    if asked is None:
        raise RequestError(422, f"the model knows several categories: add ?category= with one of {', '.join(known)}.")
    if asked not in known:
        raise RequestError(422, f"category {asked[:100]!r} is unknown to the model: use one of {', '.join(known)}.")
    return asked
