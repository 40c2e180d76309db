"""curl, as people and scripts use it."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.sandbox.clickhouse_http import ENDLESS, PlainHttp, running, wait_until
from tests.warehouse_fixtures import ClickHouseProcess

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="apt-get install curl")


def command(server: ClickHouseProcess, *arguments: str) -> list[str]:
    credentials = f"{server.user}:{server.password}"
    quiet = ("--silent", "--show-error", "--noproxy", "*", "--max-time", "60")
    return ["curl", *quiet, "--user", credentials, *arguments]


def curl(server: ClickHouseProcess, *arguments: str, given: bytes = b"") -> str:
    """Give what curl writes; fail if it fails."""
    done = subprocess.run(
        command(server, "--fail-with-body", *arguments),
        input=given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


def test_statement_in_the_body_is_answered(clickhouse_server: ClickHouseProcess) -> None:
    text = curl(
        clickhouse_server, clickhouse_server.url, "--data-binary", "select 1 as a format JSON"
    )
    assert json.loads(text)["data"] == [{"a": 1}]


def test_statement_in_the_url_is_answered(clickhouse_server: ClickHouseProcess) -> None:
    assert curl(
        clickhouse_server, clickhouse_server.url, "--get",
        "--data-urlencode", "query=select {word:String} || '&='",
        "--data-urlencode", "param_word=né +",
    ) == "né +&=\n"  # fmt: skip


def test_head_has_headers_only(clickhouse_server: ClickHouseProcess) -> None:
    text = curl(clickhouse_server, "--head", f"{clickhouse_server.url}/?query=select+1")
    assert text.startswith("HTTP/1.1 200")
    assert "x-clickhouse-summary" in text.lower()
    assert text.endswith("\r\n\r\n")


def test_file_goes_in_after_100_continue(
    clickhouse_server: ClickHouseProcess, table: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"{number},{'x' * 20}\n" for number in range(100_000)))
    done = subprocess.run(
        command(
            clickhouse_server, "--verbose", "--header", "Expect: 100-continue",
            f"{clickhouse_server.url}/?query=insert+into+{table}+format+CSV",
            "--data-binary", f"@{path}",
        ),
        capture_output=True, check=True,
    )  # fmt: skip
    assert b"100 Continue" in done.stderr
    count = curl(clickhouse_server, clickhouse_server.url, "--data", f"select count() from {table}")
    assert count == "100000\n"


def test_standard_input_streams_in(clickhouse_server: ClickHouseProcess, table: str) -> None:
    rows = "".join(f"{number}\tx\n" for number in range(50_000)).encode()
    url = f"{clickhouse_server.url}/?query=insert+into+{table}+format+TSV"
    curl(clickhouse_server, url, "--request", "POST", "--upload-file", "-", given=rows)
    total = curl(clickhouse_server, clickhouse_server.url, "--data", f"select sum(a) from {table}")
    assert total == f"{sum(range(50_000))}\n"


def test_compressed_body_and_answer(clickhouse_server: ClickHouseProcess, table: str) -> None:
    curl(
        clickhouse_server, f"{clickhouse_server.url}/?query=insert+into+{table}+format+CSV",
        "--header", "Content-Encoding: gzip", "--data-binary", "@-",
        given=gzip.compress(b"1,x\n2,y\n"),
    )  # fmt: skip
    answer = curl(
        clickhouse_server, "--compressed", "--include",
        f"{clickhouse_server.url}/?enable_http_compression=1",
        "--data", f"select * from {table} order by a",
    )  # fmt: skip
    assert "content-encoding:" in answer.lower()
    assert answer.endswith("\r\n\r\n1\tx\n2\ty\n")


def test_form_brings_tables_along(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> None:
    path = tmp_path / "any name.native"
    path.write_bytes(bytes(range(256)))
    text = curl(
        clickhouse_server, f"{clickhouse_server.url}/?brought_structure=b+UInt8",
        "--form", "query=select {n:UInt8}, count(), sum(b) from brought",
        "--form", "param_n=7",
        "--form", "brought_format=RowBinary",
        "--form", f"brought=@{path}",
    )  # fmt: skip
    assert text == f"7\t256\t{sum(range(256))}\n"


def test_error_ends_curl_with_its_status(clickhouse_server: ClickHouseProcess) -> None:
    arguments = ("--fail-with-body", clickhouse_server.url, "--data", "select nope")
    done = subprocess.run(command(clickhouse_server, *arguments), capture_output=True, check=False)
    assert done.returncode == 22
    assert done.stdout.startswith(b"Code: 47. DB::Exception: ")


def test_offer_of_http_2_is_passed_over(clickhouse_server: ClickHouseProcess) -> None:
    urls = (f"{clickhouse_server.url}/?query=select+{number}" for number in (1, 2))
    assert curl(clickhouse_server, "--http2", *urls) == "1\n2\n"
    assert curl(clickhouse_server, "--http2", clickhouse_server.url, "--data", "select 3") == "3\n"


def test_http_1_0_is_answered(clickhouse_server: ClickHouseProcess) -> None:
    assert (
        curl(clickhouse_server, "--http1.0", clickhouse_server.url, "--data", "select 1") == "1\n"
    )


def test_interrupted_curl_frees_its_query(
    clickhouse_server: ClickHouseProcess, admin_http: PlainHttp
) -> None:
    mark = f"curl {uuid.uuid4()}"
    arguments = (clickhouse_server.url, "--data", f"/* {mark} */ {ENDLESS}")
    with subprocess.Popen(command(clickhouse_server, *arguments)) as endless:
        try:
            wait_until(lambda: running(admin_http, mark))
        finally:
            endless.kill()
    wait_until(lambda: not running(admin_http, mark))
