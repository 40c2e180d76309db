"""Log each prediction of a FastAPI service, with latency and status, after its response is sent.

    pip install fastapi uvicorn driftline
    KAFKA_BOOTSTRAP_SERVERS=… uvicorn --factory docs.examples.fastapi_middleware:make_service

The middleware is plain ASGI, so it serves Starlette and other frameworks as well. It hands each
request a note; the route writes down what it predicted; a request that leaves no note (a health
check, a body that does not validate) is not a prediction and is not logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from driftline import PredictionLogger
from ingest.events import new_event_id


@dataclass
class PredictionNote:
    """What a route says of its prediction: the features as the model saw them, and the outcome.

    `outcome` holds keywords of `PredictionLogger.log`: score, value, label, scores, segments,
    entity_id, metadata. Write `features` before predicting, so that a failure is logged with them.
    """

    prediction_id: str
    features: Mapping[str, Any] | None = None
    outcome: dict[str, Any] = field(default_factory=dict)


class PredictionLogging:
    """ASGI middleware: logs what the route noted, once the last byte is with the server.

    The response carries the id, which the label must name later, as `x-prediction-id`. Latency
    runs from the request's arrival to the response's end. Statuses that count as errors are
    `http_<code>` for a response of 400 and above (an exception is 500), and `aborted` for one that
    began and never ended.
    """

    def __init__(self, app: ASGIApp, *, logger: PredictionLogger) -> None:
        self._app = app
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        note = PredictionNote(new_event_id(time.time_ns() // 1_000_000))
        status = "http_500"
        is_logged = False

        def log(status: str) -> None:
            nonlocal is_logged
            if is_logged or note.features is None:
                return
            is_logged = True
            self._logger.log(
                note.features,
                **{
                    "prediction_id": note.prediction_id,
                    "latency_ms": (time.perf_counter() - started) * 1000,
                    "status": status,
                    **note.outcome,
                },
            )

        async def send_and_log(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                code = message["status"]
                status = "ok" if code < 400 else f"http_{code}"
                if note.features is not None:
                    identity = (b"x-prediction-id", note.prediction_id.encode())
                    message = {**message, "headers": [*message.get("headers", ()), identity]}
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                log(status)  # now, as background tasks of the response are still to come

        state = {**scope.get("state", {}), "prediction": note}
        try:
            await self._app({**scope, "state": state}, receive, send_and_log)
        finally:
            log("aborted" if status == "ok" else status)  # where the response never ended


def prediction_note(request: Request) -> PredictionNote:
    """Give the route its note (a dependency)."""
    note: PredictionNote = request.state.prediction
    return note


class Flight(BaseModel):
    """The body of a request."""

    origin: str
    distance: float
    wind_gust: float | None = None


class Delay(BaseModel):
    """The body of a response."""

    prediction_id: str
    score: float


def make_service(
    logger: PredictionLogger | None = None,
    predict: Callable[[Mapping[str, Any]], float] = lambda features: features["distance"] / 5000,
) -> FastAPI:
    """Make the service around a model: `predict` takes features and gives a probability."""
    events = logger or PredictionLogger("flights_delay", model_version="1")

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        # It waits for the broker, for ten seconds at most: not on the event loop.
        await asyncio.to_thread(events.close)

    service = FastAPI(lifespan=closing)
    service.add_middleware(PredictionLogging, logger=events)

    @service.post("/predict")
    def predict_delay(
        flight: Flight, note: Annotated[PredictionNote, Depends(prediction_note)]
    ) -> Delay:
        note.features = flight.model_dump()
        note.outcome = {"segments": {"origin": flight.origin}}
        score = predict(note.features)
        note.outcome["score"] = score
        return Delay(prediction_id=note.prediction_id, score=score)

    return service
