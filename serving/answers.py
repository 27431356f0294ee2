"""What the service is asked and answers, as JSON schemas, and the one exception behind every refusal."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class RequestError(Exception):
    """A request that gets no verdict: `status` is the HTTP status, `reason` one sentence for the client; `decision` is
    set where the part must be rejected nevertheless, `retry_after` (seconds) where the same request may succeed later,
    `full` where that is because of the others who wait.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        decision: Literal["FAIL"] | None = None,
        retry_after: int | None = None,
        full: bool = False,
    ) -> None:
        # All of them: exceptions travel between processes by these.
        super().__init__(status, reason, decision, retry_after, full)
        self.status = status
        self.reason = reason
        self.decision = decision
        self.retry_after = retry_after
        self.full = full


RESTART = 5  # seconds until a client may ask again whose process died


def too_late(seconds: float) -> RequestError:
    """What a request is told after so many seconds."""
    return RequestError(504, f"there was no answer within {seconds:.1f} s: try again.", retry_after=1)


# From a request's headers to its answer, where it sets no deadline, and the latest that it can set.
DEADLINE_MS, LATEST_DEADLINE_MS = 30_000, 60_000
# What a request may call a part and a line.
PART_LENGTH, LINE = 200, r"^[A-Za-z0-9._:-]{1,64}$"


@dataclass(frozen=True)
class Asked:
    """What a request says besides its picture; None where it does not."""

    category: str | None = None
    part: str | None = None
    line: str | None = None
    with_map: bool = False
    with_outlines: bool = False
    with_overlay: bool = False


class Problem(BaseModel):
    """The body of every answer with a status of 400 or more."""

    error: str = Field(description="One sentence: what is wrong and, where it can be mended, how.")
    decision: Literal["FAIL"] | None = Field(
        default=None,
        description="FAIL where the model gave no number for this image: whoever reads nothing but `decision` must not "
        "let the part pass. Absent otherwise.",
    )
    full: Literal[True] | None = Field(
        default=None,
        description="With status 503: true where as many requests are held as may be. Absent where the service is "
        "being started or stopped.",
    )


class DefectRegion(BaseModel):
    """A connected part of the image whose anomaly is above the threshold."""

    box: tuple[int, int, int, int] = Field(
        description="Left, top, right, bottom in pixels of the uploaded image, right and bottom exclusive."
    )
    area: float = Field(description="In pixels of the uploaded image.")
    peak: float = Field(description="The highest value of the anomaly map in the region.")
    outline: list[tuple[float, float]] | None = Field(
        default=None,
        description="With outlines=true: the corners (x, y) of the polygon around it, clockwise, in pixels of the "
        "uploaded image. Absent where it would have tens of thousands.",
    )


class Doubt(BaseModel):
    """Why the picture may not show a part of its category at all."""

    reason: str = Field(description="One sentence for people.")
    times: float = Field(
        description="As far from the good pictures of the category as the farthest of these; above 1.5."
    )
    likelier: str | None = Field(
        description="The known category that the picture looks like, absent where that is none."
    )


class Timings(BaseModel):
    """What a picture took within a replica of the model, in milliseconds."""

    wait: float = Field(description="For a process that decodes and for the model.")
    decode: float
    model: float = Field(description="The encoder, the trained part, and the decision.")

    @classmethod
    def of(cls, wait: float, decode: float, model: float) -> "Timings":
        """Of seconds."""
        return cls(wait=round(1e3 * wait, 2), decode=round(1e3 * decode, 2), model=round(1e3 * model, 2))


class Verdict(BaseModel):
    """What becomes of one image, and which version of the model said so."""

    category: str
    score: float = Field(description="The mean of the highest 1 % of the anomaly map.")
    threshold: float = Field(description="The category's, from the calibration of this version.")
    review_threshold: float = Field(description="At most the threshold; above it a person should look.")
    decision: Literal["PASS", "REVIEW", "FAIL"] = Field(
        description="FAIL if the score is above the threshold; REVIEW if it is above the review threshold alone, or "
        "would be a PASS and there is a doubt."
    )
    doubt: Doubt | None = Field(
        description="That the picture looks like no good part of its category: another one, an empty belt, a dark or "
        "blurred picture. Absent where it looks as usual, or where nobody can tell (`unchecked` of /healthz)."
    )
    p_value: float = Field(
        description="Conformal: of the held-out good images and this one, the share that score as high."
    )
    percentile: float = Field(
        description="How many of a hundred held-out good parts score lower, of equals half: 50 is an ordinary part."
    )
    false_alarm_rate: float = Field(description="The bound on the share of good parts that FAIL by this threshold.")
    confidence: float | None = Field(
        default=None, description="With which that bound holds; absent: on average over calibrations."
    )
    promised: bool = Field(
        description="False where nobody knows whether the held-out images were new to the model: then neither the "
        "thresholds' false-alarm rate nor the p-value is promised."
    )
    regions: list[DefectRegion] = Field(
        description="Above the threshold of a FAIL, above the review threshold of a REVIEW; the highest peak first. "
        "Empty for a PASS."
    )
    model_name: str
    model_version: int
    model_digest: str = Field(
        description="sha256 of the version's detector: its tag `detector.digest` in the registry."
    )
    timings_ms: Timings
    part: str | None = Field(default=None, description="As the request named it; else absent.")
    line: str | None = Field(default=None, description="As the request named it; else absent.")
    map_png: str | None = Field(
        default=None,
        description="With map=true: the anomaly map as a base64 8-bit greyscale PNG, 256×256 pixels a tile. "
        "0 is 0, 255 is twice the threshold or more.",
    )
    map_box: tuple[int, int, int, int] | None = Field(
        default=None,
        description="With map=true: the part of the uploaded image that the map lies over, as in `box`.",
    )
    overlay_png: str | None = Field(
        default=None,
        description="With overlay=true: that part of the picture, its map in colour and boxes around the regions, as a "
        "base64 PNG of up to 1024 pixels a side. Orange is the threshold on every picture, red twice that or more.",
    )


class Decided(BaseModel):
    """One of the last decisions, as `Verdict` has them; `doubt` is the reason alone."""

    at: datetime
    category: str
    decision: Literal["PASS", "REVIEW", "FAIL"]
    score: float
    threshold: float
    model_version: int
    part: str | None = None
    line: str | None = None
    doubt: str | None = None


class Promotion(BaseModel):
    """The entry of the record that made a version the champion."""

    by: str
    at: str = Field(description="ISO 8601.")


class Health(BaseModel):
    """What is being served."""

    status: Literal["ok"]
    model_name: str
    model_alias: str
    model_version: int
    categories: list[str]
    unchecked: list[str] = Field(
        description="The categories of which too few good parts are known to tell whether a picture shows one."
    )
    challenged: int = Field(
        description="How many pictures that go with the version it scored, before it served, as in its calibration; 0 "
        "where none do, or with an export of 8 bits."
    )
    device: str = Field(description="What the model computes on: cpu or cuda.")
    backend: str = Field(description="Who computes: torch, or the runtime of the version's export.")
    precision: int = Field(description="In how many bits: 32, or those of the version's export.")
    notice: str | None = Field(
        description="What an operator should know of the version that is served, such as that the encoder's weights "
        "given by setting are not its own; else null."
    )
    promoted: Promotion | None = Field(
        description="Who made this version @champion, and when, by the record of promotions; null where that does not "
        "say so, or was not read yet."
    )
    drift: str | None = Field(
        description="That the alias is not where the record of promotions says, as somebody moved it by hand; null "
        "where both agree, or there is no record."
    )
    update_error: str | None = Field(
        description="Why the last look at the registry or the last load of a newer version failed; null if it did "
        "not. `model_version` keeps serving meanwhile."
    )


class Calibration(BaseModel):
    """What a category's thresholds stand on."""

    category: str
    threshold: float
    review_threshold: float
    false_alarm_rate: float = Field(description="The bound on the share of good parts that FAIL.")
    confidence: float | None = Field(description="With which that bound holds; null: on average.")
    promised: bool = Field(description="As in a verdict.")
    parts: int = Field(description="Held-out good parts that set the thresholds.")
    scores: list[float] = Field(description="Theirs, the lowest first; of more than 1000 so many, evenly chosen.")
    model_version: int


class Ready(BaseModel):
    """That the service takes pictures."""

    status: Literal["ready"]
