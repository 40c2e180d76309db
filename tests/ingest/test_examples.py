"""The examples of docs/examples run as they stand, and what they log is valid."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uvicorn
from fastapi import FastAPI
from scipy.sparse import csr_matrix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, StreamingResponse

from docs.examples.fastapi_middleware import PredictionLogging, PredictionNote, make_service
from docs.examples.scikit_learn_wrapper import LoggedClassifier
from driftline import PredictionLogger
from tests.ingest.test_event_schemas import problems
from tests.ingest.test_prediction_logger import DEADLINE, NOWHERE, QUIET, read_topic


@pytest.fixture
def topic() -> str:
    return f"examples_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def logger(broker: str, topic: str) -> Iterator[PredictionLogger]:
    with PredictionLogger("m", "1", bootstrap_servers=broker, topic=topic) as opened:
        yield opened


@pytest.fixture
def arrived(
    logger: PredictionLogger, broker: str, topic: str
) -> Callable[[], dict[str, dict[str, Any]]]:
    """Close the logger and give the events by prediction id, after checking each."""

    def read() -> dict[str, dict[str, Any]]:
        logger.close()
        events = [json.loads(message.value()) for message in read_topic(broker, topic)]
        for event in events:
            assert problems("predictions", event) == []
        found = {event["prediction_id"]: event for event in events}
        assert len(found) == len(events)
        return found

    return read


@contextmanager
def served(service: Any) -> Iterator[str]:
    """Serve an application on a free port; give its address."""
    server = uvicorn.Server(uvicorn.Config(service, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + DEADLINE
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


def post(address: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any], Any]:
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{address}/predict",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:  # noqa: S310
            return response.status, dict(response.headers), json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), None


def test_service_logs_each_prediction_with_latency_and_status(
    logger: PredictionLogger, arrived: Callable[[], dict[str, dict[str, Any]]]
) -> None:
    def predict(features: Mapping[str, Any]) -> float:
        if features["distance"] < 0:
            raise ValueError("negative")
        return float(features["distance"]) / 4096

    answers = {}
    with served(make_service(logger, predict)) as address:
        for distance in (500.0, 1400.0):
            code, headers, answer = post(address, {"origin": "EWR", "distance": distance})
            assert code == 200
            assert headers["x-prediction-id"] == answer["prediction_id"]
            answers[answer["prediction_id"]] = answer["score"]
        assert post(address, {"origin": "JFK", "distance": -1.0})[0] == 500
        code, headers, _ = post(address, {"origin": "EWR"})  # no distance: no prediction
        assert code == 422
        assert "x-prediction-id" not in headers
    events = arrived()
    assert answers.keys() < events.keys()
    for identifier, score in answers.items():
        event = events[identifier]
        assert event["prediction"] == {"score": score}
        assert event["features"]["distance"] == score * 4096
        assert (event["segments"], event["status"]) == ({"origin": "EWR"}, "ok")
        assert event["latency_ms"] > 0
    [failed] = [event for identifier, event in events.items() if identifier not in answers]
    assert (failed["status"], failed["prediction"]) == ("http_500", {})
    assert failed["features"] == {"origin": "JFK", "distance": -1.0, "wind_gust": None}
    assert failed["segments"] == {"origin": "JFK"}


def test_service_answers_while_the_broker_is_down() -> None:
    logger = PredictionLogger(
        "m", "1", bootstrap_servers=NOWHERE, kafka=QUIET, exit_flush_seconds=0
    )
    # Not the service's own shutdown, which would wait ten seconds for the broker.
    application = FastAPI()
    application.router.routes.extend(make_service(logger).routes)
    application.add_middleware(PredictionLogging, logger=logger)
    with served(application) as address:
        assert post(address, {"origin": "EWR", "distance": 500.0})[0] == 200
    assert logger.counters().queued == 1
    logger.close(timeout=0)


class RecordingLogger(PredictionLogger):
    """Notes in `happenings` when it was called."""

    def __init__(self, happenings: list[str]) -> None:
        super().__init__("m", "1", bootstrap_servers=NOWHERE, kafka=QUIET, exit_flush_seconds=0)
        self.happenings = happenings

    def log(self, features: Mapping[str, Any], **given: Any) -> str:
        self.happenings.append(f"logged {given['status']}")
        return super().log(features, **given)


async def happenings_of(respond: Callable[[PredictionNote], Any], happenings: list[str]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        note = scope["state"]["prediction"]
        note.features = {"x": 1}
        response = respond(note)
        await response(scope, receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        happenings.append(message["type"])

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "state": {"a": 1}}
    logger = RecordingLogger(happenings)
    try:
        await PredictionLogging(application, logger=logger)(scope, receive, send)
    finally:
        logger.close(timeout=0)
    assert scope["state"] == {"a": 1}  # what the server handed over is its own


def happenings_after(respond: Callable[[PredictionNote], Any]) -> list[str]:
    happenings: list[str] = []
    try:
        asyncio.run(happenings_of(respond, happenings))
    except (RuntimeError, ExceptionGroup) as error:
        happenings.append(type(error).__name__)
    return happenings


def test_prediction_is_logged_after_the_response_and_before_its_background_tasks() -> None:
    happenings: list[str] = []

    async def afterwards() -> None:
        happenings.append("background task")

    def respond(note: PredictionNote) -> JSONResponse:
        return JSONResponse({}, status_code=201, background=BackgroundTask(afterwards))

    asyncio.run(happenings_of(respond, happenings))
    assert happenings == [
        "http.response.start", "http.response.body", "logged ok", "background task",
    ]  # fmt: skip


def test_refusal_is_logged_with_its_code() -> None:
    happenings = happenings_after(lambda _: JSONResponse({}, status_code=429))
    assert happenings[-1] == "logged http_429"


def test_stream_is_logged_once_at_its_end() -> None:
    happenings = happenings_after(lambda _: StreamingResponse(iter(["a", "b"])))
    assert happenings.count("logged ok") == 1
    assert happenings[-1] == "logged ok"


def test_response_that_breaks_off_is_logged_as_aborted() -> None:
    def parts() -> Iterator[str]:
        yield "a"
        raise RuntimeError("broken")

    happenings = happenings_after(lambda _: StreamingResponse(parts()))
    assert "logged aborted" in happenings
    assert "logged ok" not in happenings


def test_exception_before_the_response_is_logged_as_500() -> None:
    def respond(note: PredictionNote) -> JSONResponse:
        raise RuntimeError("model")

    assert happenings_after(respond) == ["logged http_500", "RuntimeError"]


ROWS = pd.DataFrame(
    {"distance": [500.0, 1400.0, 2500.0, 760.0], "hour": [6, 12, 18, 21], "gust": [1.0, 2, 3, 4]}
)


def test_binary_classifier_logs_the_score_of_each_row(
    logger: PredictionLogger, arrived: Callable[[], dict[str, dict[str, Any]]]
) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    pipeline.fit(ROWS, ["early", "late", "late", "early"])
    logged = LoggedClassifier(pipeline, logger, segments=["hour"])
    probabilities, ids = logged.predict_proba_and_ids(ROWS)
    np.testing.assert_array_equal(probabilities, pipeline.predict_proba(ROWS))
    events = arrived()
    assert list(events) != []
    assert events.keys() == set(ids)
    for place, identifier in enumerate(ids):
        event = events[identifier]
        assert event["prediction"] == {"score": probabilities[place, 1]}
        assert event["features"] == ROWS.iloc[place].to_dict()
        assert event["segments"] == {"hour": str(ROWS["hour"].iloc[place])}
        assert (event["status"], event["latency_ms"] > 0) == ("ok", True)


def test_multiclass_classifier_logs_label_and_scores(
    logger: PredictionLogger, arrived: Callable[[], dict[str, dict[str, Any]]]
) -> None:
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    classifier.fit(ROWS.to_numpy(), [1, 2, 3, 1])
    logged = LoggedClassifier(classifier, logger, feature_names=["distance", "hour", "gust"])
    probabilities, ids = logged.predict_proba_and_ids(ROWS.to_numpy())
    events = arrived()
    for place, identifier in enumerate(ids):
        assert events[identifier]["features"] == ROWS.iloc[place].to_dict()
        assert events[identifier]["prediction"] == {
            "label": int(classifier.predict(ROWS.to_numpy())[place]),
            "scores": dict(zip("123", probabilities[place].tolist(), strict=True)),
        }


def test_missing_value_is_logged_as_null(
    logger: PredictionLogger, arrived: Callable[[], dict[str, dict[str, Any]]]
) -> None:
    classifier = HistGradientBoostingClassifier().fit(ROWS, [0, 1, 1, 0])
    LoggedClassifier(classifier, logger).predict_proba(ROWS.assign(gust=np.nan))
    assert [event["features"]["gust"] for event in arrived().values()] == [None] * 4


def test_names_of_an_array_are_those_of_the_fit_or_numbers(
    logger: PredictionLogger, arrived: Callable[[], dict[str, dict[str, Any]]]
) -> None:
    values = ROWS.to_numpy()
    unnamed = LogisticRegression().fit(values, [0, 1, 1, 0])
    LoggedClassifier(unnamed, logger).predict_proba(values[:1].tolist())
    named = LogisticRegression().fit(ROWS, [0, 1, 1, 0])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        LoggedClassifier(named, logger).predict_proba(values[:1])
    names = {tuple(event["features"]) for event in arrived().values()}
    assert names == {("x0", "x1", "x2"), tuple(ROWS)}


def test_call_that_raises_is_logged_and_raises(
    logger: PredictionLogger, arrived: Callable[[], dict[str, dict[str, Any]]]
) -> None:
    classifier = LogisticRegression().fit(ROWS, [0, 1, 1, 0])
    with pytest.raises(ValueError, match="NaN"):
        LoggedClassifier(classifier, logger).predict_proba(ROWS.assign(gust=np.nan))
    assert [event["status"] for event in arrived().values()] == ["error"] * 4


def test_rows_that_cannot_be_read_for_the_log_are_predicted_all_the_same(
    logger: PredictionLogger, caplog: pytest.LogCaptureFixture
) -> None:
    values = csr_matrix(ROWS.to_numpy())
    classifier = LogisticRegression().fit(values, [0, 1, 1, 0])
    probabilities, ids = LoggedClassifier(classifier, logger).predict_proba_and_ids(values)
    np.testing.assert_array_equal(probabilities, classifier.predict_proba(values))
    assert ids == []
    assert "csr_matrix rows were not logged" in caplog.text
