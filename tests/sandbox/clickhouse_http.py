"""Plain HTTP towards the sandbox's ClickHouse."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from tests.warehouse_fixtures import ClickHouseProcess

# Runs for minutes if nobody stops it.
ENDLESS = "select sum(cityHash64(number)) from numbers(100000000000)"


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> str | None:
        return self.headers.get("X-ClickHouse-Exception-Code")


@dataclass(frozen=True)
class PlainHttp:
    """Sends one request a connection, with the credentials of one of the users."""

    server: ClickHouseProcess
    user: str
    password: str

    def connection(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.server.host, self.server.port, timeout=timeout)

    def headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {token}", **(more or {})}

    def ask(
        self,
        body: bytes | str | Iterable[bytes] | None = None,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        path: str = "/",
    ) -> Answer:
        connection = self.connection()
        try:
            target = f"{path}?{urlencode(parameters)}" if parameters else path
            data = body.encode() if isinstance(body, str) else body
            connection.request(method, target, body=data, headers=self.headers(headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def query(self, body: bytes | str, **parameters: str) -> str:
        """Give the text of a result; fail on an error."""
        answer = self.ask(body, parameters)
        assert answer.status == 200, answer.text
        return answer.text


def running(http: PlainHttp, mark: str) -> bool:
    """Tell whether a statement runs whose text holds `mark`; questions about it do not count."""
    return (
        http.query(
            f"select count() > 0 from system.processes where position(query, '{mark}') > 0 "
            "and position(query, 'system.processes') = 0"
        )
        == "1\n"
    )


@pytest.fixture
def admin_http(clickhouse_server: ClickHouseProcess) -> PlainHttp:
    return PlainHttp(clickhouse_server, clickhouse_server.user, clickhouse_server.password)


@pytest.fixture
def analyst_http(clickhouse_server: ClickHouseProcess) -> PlainHttp:
    return PlainHttp(
        clickhouse_server, clickhouse_server.analyst_user, clickhouse_server.analyst_password
    )
