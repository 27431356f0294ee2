"""The HTTP face of the service: reads uploads, asks the model, and says everything, refusals included, in JSON.

Imports neither torch nor MLflow: a replica of it starts fast and stays small.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import v2, webhook
from serving.answers import (
    DEADLINE_MS,
    LATEST_DEADLINE_MS,
    LINE,
    PART_LENGTH,
    RESTART,
    Asked,
    Calibration,
    Decided,
    Health,
    Problem,
    Ready,
    RequestError,
    Verdict,
    too_late,
)
from serving.keys import Guest, Keys
from serving.metrics import Answer, OfReplica, RequestMetrics, exposition, of_replica
from serving.recent import latest
from serving.settings import Settings
from serving.upload import FIELD, Bodies

T = TypeVar("T")
PAGE = Path(__file__).with_name("page.html")
HEALTH_SECONDS, GRACE_SECONDS = 5.0, 0.5
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {FIELD: {"type": "string", "format": "binary"}}}
            },
        },
    }
}

# Says so in the schema; who is let in, `Keys` knows.
KEYED = [Depends(HTTPBearer(auto_error=False, description="A key, where the service was started with some."))]
# No /docs: that page would load its scripts from another host. The schema is at /openapi.json.
app = FastAPI(title="INP-Former inspector", docs_url=None, redoc_url=None, redirect_slashes=False)


@app.exception_handler(RequestError)
async def _refuse(request: Request, error: RequestError) -> JSONResponse:
    return JSONResponse(
        Problem(error=error.reason, decision=error.decision, full=error.full or None).model_dump(exclude_none=True),
        error.status,
        headers=_headers(error),
    )


def _headers(error: RequestError) -> dict[str, str]:
    later = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return later | ({"WWW-Authenticate": "Bearer"} if error.status == 401 else {})


@app.exception_handler(RequestValidationError)
async def _refuse_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    return JSONResponse({"error": f"parameter {first['loc'][-1]}: {first['msg']}."}, 422)


@app.exception_handler(HTTPException)
async def _refuse_route(request: Request, error: HTTPException) -> JSONResponse:
    reason = f"{request.method} {request.url.path}: {error.detail}."
    return JSONResponse({"error": reason}, error.status_code, headers=error.headers)


# Above the class, not below: `serve.ingress` copies the routes, with the names that they see, when it meets the class.
async def _ask(response: Awaitable[T | RequestError]) -> T:
    """What a replica gives. Raises RequestError: what it returned as one, as Serve logs what it raises as a crash."""
    try:
        found = await response
    except BackPressureError:
        reason = "too many requests wait for the model: try again in a moment."
        raise RequestError(503, reason, retry_after=1, full=True) from None
    except (DeploymentUnavailableError, RayActorError):
        raise RequestError(503, "the model is being restarted: try again in a moment.", retry_after=RESTART) from None
    except RayTaskError:  # logged with its traceback where it was raised
        raise RequestError(500, "the model failed on this image: see the log of the Inspector replica.") from None
    if isinstance(found, RequestError):
        raise found
    return found


async def _at_once(response: Awaitable[T | RequestError]) -> T:
    """Of what waits for no model."""
    try:
        return await asyncio.wait_for(_ask(response), HEALTH_SECONDS)
    except TimeoutError:
        raise RequestError(503, "no model is loaded.", retry_after=RESTART) from None


@serve.ingress(app)
class Ingress:
    """Routes of the service. `inspector` is the handle of the deployment `serving.inspector.Inspector`."""

    def __init__(self, inspector: DeploymentHandle[Any], settings: Settings) -> None:
        self._inspector = inspector
        self._bodies = Bodies(int(settings.max_upload_mb * 2**20))
        self._keys = Keys(Path(settings.keys)) if settings.keys else None
        self._webhook_secret = settings.webhook_secret.get_secret_value()
        self._page = PAGE.read_text()
        self._model = settings.model
        self._metrics = RequestMetrics()
        self._draining = False

    @contextmanager
    def _answer(self) -> Iterator[Answer]:
        """Around what `drain` waits for."""
        with self._metrics.request() as answer:
            try:
                self._refuse_if_draining()
                yield answer
            except ClientDisconnect:  # while its upload was read
                raise
            except Exception as error:
                answer.status = error.status if isinstance(error, RequestError) else 500
                raise

    def _admit(self, request: Request) -> Guest:
        """Who brings pictures."""
        return Guest() if self._keys is None else self._keys.admit(request.headers.get("authorization"))

    def _let_in(self, request: Request) -> Guest:
        """Who asks for something else than a verdict."""
        if self._keys is None:
            return Guest()
        return Guest(self._keys.let_in(request.headers.get("authorization")).line)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise RequestError(503, "the service is being stopped: ask it again once it runs.", retry_after=RESTART)

    async def drain(self) -> None:
        """Lets no picture in any more, and waits for those that are."""
        self._draining = True
        while self._metrics.under_way:
            await asyncio.sleep(0.02)

    async def metrics(self) -> OfReplica:
        """What this replica counted."""
        return of_replica(self._metrics.registry)

    @app.post(
        "/v1/predict",
        dependencies=KEYED,
        response_model_exclude_none=True,
        responses={status: {"model": Problem} for status in (400, 401, 403, 408, 413, 422, 429, 500, 503, 504)},
        openapi_extra=UPLOAD,
    )
    async def predict(
        self,
        request: Request,
        category: str | None = None,
        part: Annotated[str | None, Query(max_length=PART_LENGTH)] = None,
        line: Annotated[str | None, Query(pattern=LINE)] = None,
        with_map: Annotated[bool, Query(alias="map")] = False,
        outlines: bool = False,
        overlay: bool = False,
        deadline_ms: Annotated[int, Query(ge=1, le=LATEST_DEADLINE_MS)] = DEADLINE_MS,
    ) -> Verdict:
        """Judges one image: the body itself, or the multipart field "image". BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP.

        `category` may be left out when the model knows only one. `part` and `line` say what was photographed and where;
        the answer repeats them. After `deadline_ms` from the headers nobody works on the image any more: 504, or 503 at
        once where the line before the model is too long for that.
        """
        end = time.monotonic() + deadline_ms / 1000
        with self._answer() as answer:
            asked = Asked(category, part, self._admit(request).of(line), with_map, outlines, overlay)
            async with self._bodies.upload(request, deadline_ms / 1000) as upload:
                (verdict,) = await self._judge((upload,), (asked,), end)
            answer.status = 200
            return verdict

    async def _judge(self, uploads: Sequence[bytes], asked: Sequence[Asked], end: float) -> list[Verdict]:
        left = end - time.monotonic()
        judging = self._inspector.judge.remote(uploads, asked, left)
        try:
            # The replica keeps the deadline; where there is none just now, nobody would.
            async with asyncio.timeout(left + GRACE_SECONDS):
                verdicts: list[Verdict] = await _ask(judging)
        except TimeoutError:
            raise too_late(left) from None
        return verdicts

    @app.get(
        "/v1/calibration", dependencies=KEYED, responses={status: {"model": Problem} for status in (401, 422, 503)}
    )
    async def calibration(self, request: Request, category: str | None = None) -> Calibration:
        """What the thresholds of a category stand on: the scores of held-out good parts, and what they promise."""
        self._let_in(request)
        found: Calibration = await _at_once(self._inspector.calibration.remote(category))
        return found

    @app.get(
        "/v1/example",
        dependencies=KEYED,
        response_class=Response,
        responses={status: {"model": Problem} for status in (401, 404, 422, 503)},
    )
    async def example(self, request: Request, category: str | None = None) -> Response:
        """A held-out good part of a category, that nearest to its threshold, as a PNG of up to 512 pixels a side; 404
        where none goes with the version.
        """
        self._let_in(request)
        found: bytes = await _at_once(self._inspector.example.remote(category))
        return Response(found, media_type="image/png")

    @app.get(
        "/v1/decisions",
        dependencies=KEYED,
        response_model_exclude_none=True,
        responses={status: {"model": Problem} for status in (401, 422, 503)},
    )
    async def decisions(
        self,
        request: Request,
        category: str | None = None,
        line: str | None = None,
        decision: Literal["PASS", "REVIEW", "FAIL"] | None = None,
    ) -> list[Decided]:
        """The last 200 decisions that the replicas remember since their start, the latest first; with a key of a line,
        those of that line.
        """
        line = self._let_in(request).of(line)
        found = await _at_once(self._inspector.broadcast("recent").results_async())
        return latest(found, {"category": category, "line": line, "decision": decision})

    @app.get("/v2")
    async def v2_server(self) -> dict[str, Any]:
        """Open Inference Protocol: the server."""
        return v2.server()

    @app.get("/v2/health/live")
    async def v2_live(self) -> dict[str, Any]:
        """Open Inference Protocol: 200 while there is an answer."""
        return {"live": True}

    @app.get("/v2/health/ready", responses={503: {"model": Problem}})
    async def v2_ready(self) -> dict[str, Any]:
        """Open Inference Protocol: as /readyz."""
        await self.readyz()
        return {"ready": True}

    @app.get("/v2/models/{model}", responses={status: {"model": Problem} for status in (404, 503)})
    async def v2_model(self, model: str) -> dict[str, Any]:
        """Open Inference Protocol: the model, its inputs and outputs."""
        self._refuse_other(model)
        return v2.model(await self.healthz())

    @app.get("/v2/models/{model}/ready", responses={status: {"model": Problem} for status in (404, 503)})
    async def v2_model_ready(self, model: str) -> dict[str, Any]:
        """Open Inference Protocol: as /readyz."""
        self._refuse_other(model)
        await self.readyz()
        return {"name": model, "ready": True}

    @app.post(
        "/v2/models/{model}/infer",
        dependencies=KEYED,
        responses={status: {"model": Problem} for status in (400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504)},
    )
    async def v2_infer(
        self,
        request: Request,
        model: str,
        deadline_ms: Annotated[int, Query(ge=1, le=LATEST_DEADLINE_MS)] = DEADLINE_MS,
    ) -> dict[str, Any]:
        """Open Inference Protocol: judges up to 16 encoded pictures, the input "image" of datatype BYTES. An input
        "category" (BYTES) has one for all or one each; the parameters `category`, `part` and `line` are of all.
        """
        end = time.monotonic() + deadline_ms / 1000
        self._refuse_other(model)
        with self._answer() as answer:
            guest = self._admit(request)
            async with self._bodies.whole(request, deadline_ms / 1000) as body:
                inference = v2.read(body, request.headers.get(v2.JSON_LENGTH))
                guest.brought(len(inference.pictures))
                asked = [replace(each, line=guest.of(each.line)) for each in inference.asked]
                verdicts = await self._judge(inference.pictures, asked, end)
            answer.status = 200
            return v2.answer(inference, verdicts)

    def _refuse_other(self, model: str) -> None:
        if model != self._model:
            raise RequestError(404, f"there is no model {model[:100]!r} here: {self._model} is served.")

    @app.get("/healthz", responses={503: {"model": Problem}})
    async def healthz(self) -> Health:
        """200 with what is being served; 503 while no model is loaded."""
        health: Health = await _at_once(self._inspector.health.remote())
        return health

    @app.get("/readyz", responses={503: {"model": Problem}})
    async def readyz(self) -> Ready:
        """200 where a picture would be judged; 503 while no model is loaded, the line before it is full, or the service
        is being stopped.
        """
        self._refuse_if_draining()
        if not await _at_once(self._inspector.ready.remote()):
            raise RequestError(
                503, "the line before the model is full, or its replica is being replaced.", retry_after=1, full=True
            )
        return Ready(status="ready")

    @app.get("/metrics", dependencies=KEYED, response_class=PlainTextResponse, responses={401: {"model": Problem}})
    async def all_metrics(self, request: Request) -> Response:
        """In Prometheus's text format: requests, decisions, scores, times and the line, of each replica by its name."""
        self._let_in(request)
        here = serve.get_replica_context()
        ingresses = serve.get_deployment_handle(here.deployment, here.app_name)
        asked = [
            handle.broadcast("metrics").results_async(timeout_s=HEALTH_SECONDS)
            for handle in (ingresses, self._inspector)
        ]
        # A deployment that is being restarted has nothing to say.
        found = await asyncio.gather(*asked, return_exceptions=True)
        replicas = [replica for results in found if not isinstance(results, BaseException) for replica in results]
        return Response(exposition(replicas), media_type=CONTENT_TYPE_LATEST)

    @app.post(webhook.PATH, status_code=204, responses={status: {"model": Problem} for status in (401, 404, 413)})
    async def registry_changed(self, request: Request) -> None:
        """MLflow's webhook: the service looks at the alias at once."""
        if not self._webhook_secret:
            raise RequestError(404, f"no webhook is expected: set {webhook.SECRET_VARIABLE} where the service starts.")
        refusal = RequestError(413, f"a webhook has at most {webhook.LARGEST_BODY} bytes.")
        async with self._bodies.body(request, webhook.LARGEST_BODY, refusal) as body:
            if not webhook.is_signed(self._webhook_secret, request.headers, body, time.time()):
                raise RequestError(401, f"the signature is not one of {webhook.SECRET_VARIABLE} in the last minutes.")
        await _ask(self._inspector.broadcast("look").results_async())

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page(self) -> str:
        """A page to try the service by hand."""
        return self._page
