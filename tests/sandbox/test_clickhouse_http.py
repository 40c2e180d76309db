"""The HTTP interface itself: parameters, bodies, compression, formats, errors, sessions."""

from __future__ import annotations

import bz2
import concurrent.futures
import gzip
import http.client
import json
import lzma
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import brotli
import lz4.frame
import pytest
import zstandard
from psutil import Process

from sandbox.clickhouse_wire import decoder, encoder
from tests.sandbox.clickhouse_http import ENDLESS, Answer, PlainHttp, running, wait_until
from tests.warehouse_fixtures import ClickHouseProcess

# What answers without credentials


@pytest.mark.parametrize("path", ["/ping", "/replicas_status", "/"])
def test_health_answers_without_credentials(admin_http: PlainHttp, path: str) -> None:
    answer = admin_http.ask(method="GET", path=path, headers={"Authorization": ""})
    assert (answer.status, answer.text) == (200, "Ok.\n")


def test_unknown_path_is_404(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1", path="/nowhere").status == 404


def test_unknown_method_is_405(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1", method="DELETE").status == 405


@pytest.mark.parametrize("path", ["/ping", "/?query=select+1"])
def test_body_that_is_no_http_is_refused(
    admin_http: PlainHttp, clickhouse_server: ClickHouseProcess, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    authorization = f"Authorization: {admin_http.headers()['Authorization']}\r\n"
    address = (clickhouse_server.host, clickhouse_server.port)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(f"{head}{authorization}\r\nno number\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


# Where the statement stands


def test_get_reads(admin_http: PlainHttp) -> None:
    assert admin_http.ask(parameters={"query": "select 1"}, method="GET").text == "1\n"


def test_get_does_not_write(admin_http: PlainHttp, table: str) -> None:
    for statement in (f"drop table {table}", f"insert into {table} values (1, '')"):
        answer = admin_http.ask(parameters={"query": statement}, method="GET")
        assert answer.code == "164"
        assert "method GET implies readonly" in answer.text
    assert admin_http.query(f"select count() from {table}") == "0\n"


def test_url_and_body_are_joined_by_a_line_end(admin_http: PlainHttp) -> None:
    assert admin_http.query("from numbers(3)", query="select count() -- comment") == "3\n"


def test_multipart_form_brings_query_and_parameters(admin_http: PlainHttp) -> None:
    assert ask_form(admin_http, {"query": "select {n:UInt8} + 1", "param_n": "4"}).text == "5\n"


def ask_form(
    http: PlainHttp,
    fields: dict[str, str],
    files: dict[str, bytes] | None = None,
    parameters: dict[str, str] | None = None,
) -> Answer:
    boundary = "a-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ] + [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.x"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in (files or {}).items()
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return http.ask(body, parameters, headers)


def test_external_table_with_structure_can_be_joined(admin_http: PlainHttp) -> None:
    answer = ask_form(
        admin_http,
        {},
        {"brought": b"1,Rome\n2,Oslo\n"},
        {
            "query": "select groupArray(city) from brought where id = 2",
            "brought_structure": "id UInt8, city String",
            "brought_format": "CSV",
        },
    )
    assert answer.text == "['Oslo']\n"


def test_external_table_with_types_has_numbered_columns(admin_http: PlainHttp) -> None:
    answer = ask_form(
        admin_http,
        {},
        {"brought": b"1\t['x']\n"},
        {
            "query": "select _1, _2 from brought",
            "brought_types": "UInt8, Array(LowCardinality(String))",
        },
    )
    assert answer.text == "1\t['x']\n"
    assert admin_http.ask("select * from brought").code == "60"


def test_external_table_is_gone_after_its_request(admin_http: PlainHttp) -> None:
    session = {"session_id": str(uuid.uuid4())}
    parameters = {"query": "select * from brought", "brought_types": "UInt8", **session}
    for row in (b"1\n", b"2\n"):
        assert ask_form(admin_http, {}, {"brought": row}, parameters).body == row
    assert admin_http.ask("select * from brought", session).code == "60"


def test_external_table_without_columns_is_refused(admin_http: PlainHttp) -> None:
    assert ask_form(admin_http, {"query": "select 1"}, {"brought": b"1"}).code == "36"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--B\r\n\r\n--B--\r\n"),
        ("multipart/form-data; boundary=", b"--B\r\n\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", b""),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Disposition: form-data; na"),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="query"\r\n\r\nselect 1\r\n',
        ),
    ],
)
def test_form_that_is_not_whole_is_refused(
    admin_http: PlainHttp, content_type: str, body: bytes
) -> None:
    answer = admin_http.ask(body, headers={"Content-Type": content_type})
    assert (answer.status, answer.code) == (400, "36")


def test_form_keeps_every_byte_of_its_tables(admin_http: PlainHttp) -> None:
    data = bytes(range(256)) + b"\r\n--a-boundar\r\n\r\n\n\r"
    parameters = {"query": "select hex(groupConcat(char(b))) from brought"}
    parameters |= {"brought_structure": "b UInt8", "brought_format": "RowBinary"}
    answer = ask_form(admin_http, {}, {"brought": data}, parameters)
    assert answer.text == data.hex().upper() + "\n"


@pytest.mark.parametrize("text", ["", "  \n", "-- only a comment"])
def test_empty_query_is_a_syntax_error(admin_http: PlainHttp, text: str) -> None:
    answer = admin_http.ask(text)
    assert (answer.status, answer.code) == (400, "62")


def test_several_statements_at_once_are_refused(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1; select 2").code == "62"
    assert admin_http.query("select 1;") == "1\n"
    assert admin_http.query("select 1; -- the end") == "1\n"


def test_statement_may_be_long(admin_http: PlainHttp) -> None:
    # Longer than what is looked through for an INSERT's head.
    text = "select length('" + "x" * 3_000_000 + "')"
    assert admin_http.query(text, max_query_size="10000000") == "3000000\n"


def test_statement_may_have_any_bytes(admin_http: PlainHttp) -> None:
    assert admin_http.query(b"select hex('\xff\xfe\xc3')") == "FFFEC3\n"


def test_statement_may_begin_with_comments_and_brackets(admin_http: PlainHttp) -> None:
    assert admin_http.query("-- a\n/* b */ ((select 1))") == "1\n"


# URL parameters


def test_unknown_setting_is_error_115(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select 1", {"no_such_setting": "1"})
    assert (answer.status, answer.code) == (404, "115")


def test_setting_holds_for_its_query_alone(admin_http: PlainHttp) -> None:
    assert admin_http.query("select getSetting('max_block_size')", max_block_size="77") == "77\n"
    assert admin_http.query("select getSetting('max_block_size')") != "77\n"


def test_database_holds_for_its_query_alone(admin_http: PlainHttp) -> None:
    assert admin_http.query("select currentDatabase()", database="system") == "system\n"
    assert admin_http.query("select currentDatabase()") == "default\n"


def test_unknown_database_is_error_81(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select 1", {"database": "no_such"})
    assert (answer.status, answer.code) == (404, "81")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("UInt8", "7", "7"),
        ("String", "it's", "it\\'s"),
        ("String", "a\\tb", "a\\tb"),
        ("Array(String)", "['a','b\\'c']", "['a','b\\'c']"),
        ("Map(String, UInt8)", "{'a':1}", "{'a':1}"),
        ("DateTime64(3, 'UTC')", "2024-01-02 03:04:05.678", "2024-01-02 03:04:05.678"),
        ("Nullable(String)", "\\N", "\\N"),
        ("Identifier", "number", "0"),
    ],
)
def test_query_parameters_of_many_types(
    admin_http: PlainHttp, kind: str, text: str, expected: str
) -> None:
    statement = f"select {{p:{kind}}} from numbers(1)"
    assert admin_http.query(statement, param_p=text) == expected + "\n"


def test_missing_query_parameter_is_error_456(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select {p:UInt8}").code == "456"


def test_query_parameter_may_have_any_bytes(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select hex({p:String})", path="/?param_p=%ff%fe")
    assert answer.text == "FFFE\n"


def test_query_parameters_are_gone_after_their_request(admin_http: PlainHttp) -> None:
    session = {"session_id": str(uuid.uuid4())}
    assert admin_http.query("select {p:UInt8}, {q:UInt8}", **session, param_p="1", param_q="2")
    assert admin_http.ask("select {p:UInt8}", session).code == "456"
    assert admin_http.ask("select {q:UInt8}", session).code == "456"


def test_query_parameters_reach_inserted_values(admin_http: PlainHttp, table: str) -> None:
    admin_http.query(
        f"insert into {table} values ({{a:UInt32}}, {{b:String}})", param_a="5", param_b="x"
    )
    assert admin_http.query(f"select * from {table}") == "5\tx\n"


def test_default_format_gives_way_to_the_statement(admin_http: PlainHttp) -> None:
    assert admin_http.query("select 1 as a", default_format="JSONEachRow") == '{"a":1}\n'
    assert admin_http.query("select 1 as a format CSV", default_format="JSONEachRow") == "1\n"
    answer = admin_http.ask("select 1 as a", headers={"X-ClickHouse-Format": "CSVWithNames"})
    assert answer.text == '"a"\n1\n'


def test_query_id_cannot_make_headers(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select 1", {"query_id": "a\r\nX-Made-Up: 1", "default_format": "CSV"})
    assert answer.headers["X-ClickHouse-Query-Id"] == "a??X-Made-Up: 1"
    assert "X-Made-Up" not in answer.headers


def test_query_id_comes_back(admin_http: PlainHttp) -> None:
    mine = str(uuid.uuid4())
    assert admin_http.ask("select 1", {"query_id": mine}).headers["X-ClickHouse-Query-Id"] == mine
    generated = admin_http.ask("select 1", {"query_id": ""}).headers["X-ClickHouse-Query-Id"]
    assert uuid.UUID(generated)


def test_interface_parameters_without_effect_are_taken(admin_http: PlainHttp) -> None:
    parameters = {"quota_key": "q", "send_progress_in_http_headers": "1", "stacktrace": "1"}
    assert admin_http.query("select 1", **parameters, client_protocol_version="54405") == "1\n"


@pytest.mark.parametrize("name", ["buffer_size", "session_timeout", "http_receive_timeout"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 5000, "\u0661"])
def test_number_that_is_none_is_refused(admin_http: PlainHttp, name: str, value: str) -> None:
    answer = admin_http.ask("select 1", {name: value})
    assert (answer.status, answer.code) == (400, "36")


@pytest.mark.parametrize("name", ["no such", "DataFrame", "ArrowTable", "\xff", "a'b`"])
def test_default_format_that_is_none_is_refused(admin_http: PlainHttp, name: str) -> None:
    for statement in ("select 1", "show databases"):
        answer = admin_http.ask(statement, {"default_format": name})
        assert (answer.status, answer.code) == (404, "73")


# What comes back


def test_headers_describe_the_result(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select number from numbers(10) format JSONEachRow")
    assert answer.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert answer.headers["X-ClickHouse-Timezone"] == "UTC"
    assert answer.headers["X-ClickHouse-Server-Display-Name"] == "driftline-sandbox"
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["result_rows"]) == ("10", "10")


def test_summary_counts_written_rows(admin_http: PlainHttp, table: str) -> None:
    for statement in (
        f"insert into {table} values (1, ''), (2, '')",
        f"insert into {table} select number, '' from numbers(2)",
    ):
        summary = json.loads(admin_http.ask(statement).headers["X-ClickHouse-Summary"])
        assert summary["written_rows"] == "2"


@pytest.mark.parametrize(
    ("output_format", "expected"),
    [
        ("TabSeparated", b"0\n1\n\n1\n"),
        ("CSVWithNames", b'"n"\n0\n1\n\n1\n'),
        ("JSONCompactEachRow", b'["0"]\n["1"]\n'),
        ("Values", b"(0),(1)"),
        ("RowBinary", b"\0" * 8 + b"\1" + b"\0" * 7),
        ("Null", b""),
    ],
)
def test_formats_with_totals(admin_http: PlainHttp, output_format: str, expected: bytes) -> None:
    statement = "select number as n from numbers(2) group by n with totals order by n"
    if output_format in ("TabSeparated", "CSVWithNames"):
        expected = expected.replace(b"\n\n1", b"\n\n0")
    answer = admin_http.ask(
        f"{statement} format {output_format}", {"output_format_json_quote_64bit_integers": "1"}
    )
    assert answer.body == expected


@pytest.mark.parametrize(
    "output_format", ["JSON", "JSONCompact", "Parquet", "Arrow", "CSVWithNamesAndTypes"]
)
def test_large_result_in_a_format_with_head_and_foot_is_one_document(
    admin_http: PlainHttp, output_format: str
) -> None:
    answer = admin_http.ask(f"select number as n from numbers(400000) format {output_format}")
    assert answer.status == 200, answer.text
    statement = "insert into function null('n UInt64') format " + output_format
    read_again = admin_http.ask(answer.body, {"query": statement})
    assert read_again.status == 200, read_again.text
    assert json.loads(read_again.headers["X-ClickHouse-Summary"])["written_rows"] == "400000"


def test_empty_result_has_its_format(admin_http: PlainHttp) -> None:
    answer = admin_http.query("select 1 as a where 0 format JSON")
    assert json.loads(answer)["meta"] == [{"name": "a", "type": "UInt8"}]
    assert admin_http.query("select 1 as a where 0 format Native") == ""


@pytest.mark.parametrize("statement", ["show databases", "describe system.one", "explain select 1"])
def test_statements_that_show_have_formats(admin_http: PlainHttp, statement: str) -> None:
    assert json.loads(admin_http.query(f"{statement} format JSON"))["data"]
    assert admin_http.query(statement, default_format="JSONEachRow").startswith("{")


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("selct 1", 400, "62"),
        ("select nope", 404, "47"),
        ("select * from no_such_table", 404, "60"),
        ("select nope()", 404, "46"),
        ("select 1 format Nope", 404, "73"),
        ("select toUInt8('x')", 400, "6"),
        ("select throwIf(1)", 500, "395"),
        ("select sleep(1) settings max_execution_time = 0.1", 408, "159"),
        ("create table numbers_twice (a UInt8, a UInt8) order by a", 500, "44"),
        ("select 1 into outfile '/tmp/nowhere'", 501, "48"),
        ("show databases into outfile '/tmp/nowhere'", 501, "48"),
        ("explain select 1 into outfile '/tmp/nowhere'", 501, "48"),
    ],
)
def test_error_has_status_code_and_name(
    admin_http: PlainHttp, statement: str, status: int, code: str
) -> None:
    answer = admin_http.ask(statement)
    assert answer.code == code
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert answer.text.endswith(f") (version {admin_http.query('select version()').strip()})\n")
    if code != "44":
        assert answer.status == status


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (b"select throwIf(1, '\xff')", "395"),
        (b"select '\xff' + 1", "43"),
        (b"insert into function null('a UInt8') format TSV\n\xff\n", "27"),
        (b"select \xff", "62"),
        (
            b"select * from remote('127.0.0.1:1', system.one) settings connections_with_failover_"
            b"max_tries = 1",
            "519",
        ),
    ],
)
def test_error_that_quotes_any_bytes_keeps_its_code(
    admin_http: PlainHttp, statement: bytes, code: str
) -> None:
    answer = admin_http.ask(statement)
    assert answer.code == code
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")


def test_error_before_the_first_mebibyte_has_a_status(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select throwIf(number = 100000) from numbers(200000)")
    assert (answer.status, answer.code) == (500, "395")


def test_error_after_much_output_breaks_the_answer_off(admin_http: PlainHttp) -> None:
    connection = admin_http.connection()
    statement = "select throwIf(number = 50000000), number from numbers(100000000)"
    connection.request("POST", "/", body=statement, headers=admin_http.headers())
    response = connection.getresponse()
    tag = response.headers["X-ClickHouse-Exception-Tag"]
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead) as broken:
        read_to_the_end(response)
    connection.close()
    end = broken.value.partial[-1000:].decode()
    assert f"__exception__\r\n{tag}\r\nCode: 395. DB::Exception" in end
    assert end.endswith(f"{tag}\r\n__exception__\r\n")
    assert admin_http.query("select 1") == "1\n"


def read_to_the_end(response: http.client.HTTPResponse) -> None:
    kept = b""
    while True:
        try:
            piece = response.read(1 << 20)
        except http.client.IncompleteRead as error:
            raise http.client.IncompleteRead(kept + error.partial) from None
        if not piece:
            return
        kept = piece


def test_error_after_much_output_is_an_error_when_waiting_for_the_end(
    admin_http: PlainHttp,
) -> None:
    answer = admin_http.ask(
        "select throwIf(number = 3000000), number from numbers(4000000)",
        {"wait_end_of_query": "1"},
    )
    assert (answer.status, answer.code) == (500, "395")


def test_large_result_passes_through_in_little_memory(
    admin_http: PlainHttp, clickhouse_server: ClickHouseProcess
) -> None:
    assert clickhouse_server.process
    server = Process(clickhouse_server.process.pid)
    connection = admin_http.connection()
    connection.request(
        "POST",
        "/",
        body="select number from numbers(60000000) format CSVWithNames",
        headers=admin_http.headers(),
    )
    response = connection.getresponse()
    before = server.memory_info().rss
    most = size = 0
    while piece := response.read(8 << 20):
        size += len(piece)
        most = max(most, server.memory_info().rss)
    connection.close()
    assert size > 500_000_000
    assert most - before < 200_000_000


# Compression


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "br": brotli.decompress,
    "xz": lzma.decompress,
    "bz2": bz2.decompress,
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "xz": lzma.compress,
    "bz2": bz2.compress,
}


@pytest.mark.parametrize("encoding", DECOMPRESS)
def test_result_is_compressed_as_asked(admin_http: PlainHttp, encoding: str) -> None:
    answer = admin_http.ask(
        "select number from numbers(300000)",
        {"enable_http_compression": "1"},
        {"Accept-Encoding": f"nonsense, {encoding};q=0.5"},
    )
    assert answer.headers["Content-Encoding"] == encoding
    assert DECOMPRESS[encoding](answer.body).decode().splitlines()[-1] == "299999"


def test_result_is_not_compressed_unasked(admin_http: PlainHttp) -> None:
    answer = admin_http.ask("select 1", headers={"Accept-Encoding": "gzip"})
    assert answer.text == "1\n"
    answer = admin_http.ask(
        "select 1", {"enable_http_compression": "1"}, {"Accept-Encoding": "gzip;q=0, sdch"}
    )
    assert answer.text == "1\n"


def test_error_is_compressed_like_a_result(admin_http: PlainHttp) -> None:
    answer = admin_http.ask(
        "select nope", {"enable_http_compression": "1"}, {"Accept-Encoding": "gzip"}
    )
    assert gzip.decompress(answer.body).startswith(b"Code: 47. ")


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("statement_in_url", [True, False])
def test_body_may_be_compressed(
    admin_http: PlainHttp, table: str, encoding: str, statement_in_url: bool
) -> None:
    statement = f"insert into {table} format CSV"
    rows = "".join(f"{number},{number}\n" for number in range(100_000))
    body = rows if statement_in_url else f"{statement}\n{rows}"
    answer = admin_http.ask(
        COMPRESS[encoding](body.encode()),
        {"query": statement} if statement_in_url else None,
        {"Content-Encoding": encoding},
    )
    assert answer.status == 200, answer.text
    assert admin_http.query(f"select count(), sum(a) from {table}") == "100000\t4999950000\n"


def test_body_of_several_frames_is_read_whole(admin_http: PlainHttp, table: str) -> None:
    body = gzip.compress(b"1,a\n") + gzip.compress(b"2,b\n")
    query = {"query": f"insert into {table} format CSV"}
    assert admin_http.ask(body, query, {"Content-Encoding": "gzip"}).status == 200
    assert admin_http.query(f"select count() from {table}") == "2\n"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_body_cut_short_inserts_nothing(admin_http: PlainHttp, table: str, encoding: str) -> None:
    body = COMPRESS[encoding](b"1,abcdefghijklmnop\n" * 1000)[:-6]
    query = {"query": f"insert into {table} format CSV"}
    answer = admin_http.ask(body, query, {"Content-Encoding": encoding})
    assert answer.code == "271"
    assert admin_http.query(f"select count() from {table}") == "0\n"


def test_body_that_is_not_what_it_says_is_refused(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1", headers={"Content-Encoding": "zstd"}).code == "271"


def test_unknown_content_encoding_is_refused(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1", headers={"Content-Encoding": "snappy"}).code == "48"


def test_clickhouse_blocks_go_both_ways(admin_http: PlainHttp, table: str) -> None:
    rows = "".join(f"{number},x\n" for number in range(300_000)).encode()
    query = {"query": f"insert into {table} format CSV", "decompress": "1"}
    assert admin_http.ask(encoder("blocks").feed(rows), query).status == 200
    answer = admin_http.ask(f"select a from {table} order by a", {"compress": "1"})
    reader = decoder("", in_blocks=True)
    text = b"".join(reader.feed(answer.body))
    reader.finish()
    assert text.splitlines()[-1] == b"299999"


def test_clickhouse_block_with_a_wrong_checksum_is_refused(
    admin_http: PlainHttp, table: str
) -> None:
    block = bytearray(encoder("blocks").feed(b"1,x\n"))
    block[-1] ^= 1
    query = {"query": f"insert into {table} format CSV", "decompress": "1"}
    assert admin_http.ask(bytes(block), query).code == "40"


# Inserts


def test_insert_takes_data_from_statement_and_body(admin_http: PlainHttp, table: str) -> None:
    admin_http.query(f"insert into {table} format CSV\n1,a\n2,b\n")
    admin_http.query("3,c\n4,d", query=f"insert into {table} format CSV")
    admin_http.query("(6, 'f');", query=f"insert into {table} values (5, 'e'),")
    admin_http.query(f"insert into {table} (b, a) settings async_insert = 0 values ('g', 3 + 4);")
    expected = "[(1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e'),(6,'f'),(7,'g')]\n"
    assert admin_http.query(f"select arraySort(groupArray((a, b))) from {table}") == expected


@pytest.mark.parametrize(
    "source", ["input('n UInt32, s String')", "input ( 'n UInt32, s String' )"]
)
def test_insert_select_from_input_reads_the_rows(
    admin_http: PlainHttp, table: str, source: str
) -> None:
    query = f"insert into {table} select n * 2, upper(s) from {source} where n > {{least:UInt8}}"
    admin_http.query(query + " format CSV\n1,a\n2,b;c\n", param_least="1")
    assert admin_http.query(f"select * from {table}") == "4\tB;C\n"
    native = "select toUInt32(number) as n, ';' as s from numbers(1000) format Native"
    body = admin_http.ask(native).body
    admin_http.query(body, query=query + " settings max_threads = 1 format Native", param_least="9")
    assert admin_http.query(f"select count(), max(a) from {table}") == "991\t1998\n"


def test_insert_without_rows_is_nothing(admin_http: PlainHttp, table: str) -> None:
    admin_http.query("", query=f"insert into {table} format Native")
    assert admin_http.query(f"select count() from {table}") == "0\n"


def test_insert_of_binary_rows_with_every_byte(admin_http: PlainHttp, table: str) -> None:
    statement = "select number as a, concat(char(number), ';') as b from numbers(256) format Native"
    body = admin_http.ask(statement).body
    admin_http.query(f"insert into {table} format Native\n".encode() + body)
    query = (
        f"select count(), uniqExact(b), sum(reinterpretAsUInt8(substring(b, 1, 1))) from {table}"
    )
    assert admin_http.query(query) == "256\t256\t32640\n"


def test_chunked_upload_streams_to_the_engine(
    admin_http: PlainHttp, clickhouse_server: ClickHouseProcess, table: str
) -> None:
    assert clickhouse_server.process
    server = Process(clickhouse_server.process.pid)
    line = b"%d," + b"x" * 100 + b"\n"
    before = server.memory_info().rss
    most = before

    def body() -> Iterator[bytes]:
        nonlocal most
        for start in range(0, 3_000_000, 10_000):
            yield b"".join(line % number for number in range(start, start + 10_000))
            most = max(most, server.memory_info().rss)

    query = {"query": f"insert into {table} format CSV", "max_insert_block_size": "65536"}
    query |= {"min_insert_block_size_rows": "65536", "min_insert_block_size_bytes": "0"}
    answer = admin_http.ask(body(), query)
    assert answer.status == 200, answer.text
    assert admin_http.query(f"select count(), sum(a) from {table}") == "3000000\t4499998500000\n"
    assert most - before < 300_000_000  # of some 320 MB sent


def test_insert_is_one_part_however_it_is_cut(admin_http: PlainHttp, table: str) -> None:
    rows = [b"".join(b"%d,x\n" % n for n in range(s, s + 1000)) for s in range(0, 500_000, 1000)]
    query = {"query": f"insert into {table} format CSV"}
    assert admin_http.ask(iter(rows), query).status == 200
    parts = f"select count() from system.parts where table = '{table}'"
    assert admin_http.query(parts) == "1\n"


def test_damaged_row_fails_the_insert(admin_http: PlainHttp, table: str) -> None:
    answer = admin_http.ask(f"insert into {table} format CSV\n1,a\nnonsense,b\n")
    assert (answer.status, answer.code) == (400, "27")
    assert admin_http.query(f"select count() from {table}") == "0\n"


@pytest.mark.parametrize("output_format", ["Avro", "ORC", "Parquet", "Arrow", "Native", "Npy"])
def test_file_cut_short_fails_the_insert(
    admin_http: PlainHttp, table: str, output_format: str
) -> None:
    rows = admin_http.ask(f"select 1::UInt32 as a, 'x' as b format {output_format}").body
    query = {"query": f"insert into {table} format {output_format}"}
    answer = admin_http.ask(rows[: len(rows) // 2], query)
    assert answer.status == 400, answer.text
    assert answer.code
    assert admin_http.query(f"select count() from {table}") == "0\n"


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("insert into no_such format CSV\n1", "60"),
        ("insert into {table} (nope) format CSV\n1", "16"),
        ("insert into {table} format Nope\n1", "73"),
    ],
)
def test_failing_insert_says_why(
    admin_http: PlainHttp, table: str, statement: str, code: str
) -> None:
    assert admin_http.ask(statement.format(table=table)).code == code


def test_client_that_stops_sending_is_given_up(admin_http: PlainHttp, table: str) -> None:
    query = {"query": f"insert into {table} format CSV", "http_receive_timeout": "1"}
    connection = admin_http.connection()
    headers = admin_http.headers({"Content-Length": "1000000"})
    connection.putrequest("POST", "/?" + urlencode(query))
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(b"1,a\n")
    response = connection.getresponse()
    assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (503, "209")
    connection.close()
    assert admin_http.query(f"select count() from {table}") == "0\n"


def test_client_leaving_in_the_middle_inserts_nothing(admin_http: PlainHttp, table: str) -> None:
    connection = admin_http.connection()
    connection.putrequest("POST", "/?" + urlencode({"query": f"insert into {table} format CSV"}))
    for name, value in admin_http.headers({"Content-Length": "1000000"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"1,a\n" * 1000)
    connection.close()
    wait_until(lambda: not running(admin_http, f"insert into {table}"))
    assert admin_http.query(f"select count() from {table}") == "0\n"


# Sessions


@pytest.fixture
def session() -> dict[str, str]:
    return {"session_id": str(uuid.uuid4())}


def test_session_keeps_temporary_tables_settings_and_database(
    admin_http: PlainHttp, session: dict[str, str]
) -> None:
    admin_http.query("create temporary table kept (a UInt8)", **session)
    admin_http.query("insert into kept values (1), (2)", **session)
    admin_http.query("set max_block_size = 55", **session)
    admin_http.query("use system", **session)
    state = "select currentDatabase(), getSetting('max_block_size'), (select count() from kept)"
    assert admin_http.query(state, **session) == "system\t55\t2\n"
    assert admin_http.ask("select * from kept").code == "60"


def test_session_does_not_keep_what_one_request_set(
    admin_http: PlainHttp, session: dict[str, str]
) -> None:
    state = "select getSetting('max_block_size'), getSetting('max_memory_usage'), currentDatabase()"
    fresh = admin_http.query(state, **session)
    changed = {"max_block_size": "33", "max_memory_usage": "123456789", "database": "system"}
    assert admin_http.query(state, **session, **changed) == "33\t123456789\tsystem\n"
    assert admin_http.query(state, **session) == fresh
    admin_http.query("set max_block_size = 44", **session, database="system")
    admin_http.query("use information_schema", **session, database="system", max_block_size="11")
    assert admin_http.query(state, **session, **changed) == "33\t123456789\tsystem\n"
    expected = "44\t" + fresh.split("\t")[1] + "\tinformation_schema\n"
    assert admin_http.query(state, **session) == expected
    admin_http.query("set max_block_size = 45", **session)
    assert admin_http.query(state, **session, **changed) == "33\t123456789\tsystem\n"
    assert admin_http.query(state, **session) == expected.replace("44", "45", 1)


def test_session_survives_a_wrong_setting(admin_http: PlainHttp, session: dict[str, str]) -> None:
    admin_http.query("create temporary table kept (a UInt8)", **session)
    before = admin_http.query("select getSetting('max_block_size')", **session)
    answer = admin_http.ask("select 1", {**session, "max_block_size": "1", "nonsense": "1"})
    assert answer.code == "115"
    assert admin_http.query("select count() from kept", **session) == "0\n"
    assert admin_http.query("select getSetting('max_block_size')", **session) == before


def test_session_check_refuses_an_unknown_session(
    admin_http: PlainHttp, session: dict[str, str]
) -> None:
    assert admin_http.ask("select 1", {**session, "session_check": "1"}).code == "372"
    admin_http.query("select 1", **session)
    assert admin_http.query("select 1", **session, session_check="1") == "1\n"


def test_session_ends_after_its_timeout(admin_http: PlainHttp, session: dict[str, str]) -> None:
    admin_http.query("select 1", **session, session_timeout="1")
    check = {**session, "session_check": "1", "session_timeout": "0"}
    wait_until(lambda: admin_http.ask("select 1", check).code == "372")


def test_session_is_closed_as_asked(admin_http: PlainHttp, session: dict[str, str]) -> None:
    admin_http.query("create temporary table kept (a UInt8)", **session)
    assert admin_http.query("select count() from kept", **session, close_session="1") == "0\n"
    assert admin_http.ask("select 1", {**session, "session_check": "1"}).code == "372"


@pytest.mark.parametrize("timeout", ["100000", "-1", "soon"])
def test_session_timeout_has_bounds(
    admin_http: PlainHttp, session: dict[str, str], timeout: str
) -> None:
    assert admin_http.ask("select 1", {**session, "session_timeout": timeout}).status == 400


def test_busy_session_is_error_373(admin_http: PlainHttp, session: dict[str, str]) -> None:
    mark = f"busy {uuid.uuid4()}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(admin_http.ask, f"/* {mark} */ {ENDLESS}", session)
        wait_until(lambda: running(admin_http, mark))
        assert admin_http.ask("select 1", session).code == "373"
        admin_http.query(
            f"kill query where position(query, '{mark}') > 0 and query not like 'kill%'"
        )
        assert first.result().code == "394"
    assert admin_http.query("select 1", **session) == "1\n"


def test_session_is_free_before_the_head_of_an_answer_without_rows(
    admin_http: PlainHttp, session: dict[str, str]
) -> None:
    admin_http.query("create temporary table kept (a UInt8)", **session)
    for number in range(50):
        connection = admin_http.connection()
        statement = f"insert into kept values ({number})"
        target = "/?" + urlencode(session)
        connection.request("POST", target, body=statement, headers=admin_http.headers())
        assert connection.getresponse().status == 200  # whose body nobody has read yet
        assert admin_http.query("select count() from kept", **session) == f"{number + 1}\n"
        connection.close()


def test_sessions_of_two_users_are_two(
    admin_http: PlainHttp, analyst_http: PlainHttp, session: dict[str, str]
) -> None:
    admin_http.query("create temporary table kept (a UInt8)", **session)
    assert analyst_http.ask("select * from kept", session).code == "60"


# Many at once


def test_short_query_answers_while_long_ones_run(admin_http: PlainHttp) -> None:
    mark = f"long {uuid.uuid4()}"
    statement = f"/* {mark} */ {ENDLESS} settings max_threads = 1"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        long = [pool.submit(admin_http.ask, statement) for _ in range(4)]
        wait_until(lambda: running(admin_http, mark))
        times = []
        for _ in range(20):
            started = time.perf_counter()
            assert admin_http.query("select 1") == "1\n"
            times.append(time.perf_counter() - started)
        admin_http.query(
            f"kill query where position(query, '{mark}') > 0 and query not like 'kill%'"
        )
        assert [answer.result().code for answer in long] == ["394"] * 4
    assert sorted(times)[10] < 0.25


def test_kill_query_finds_the_clients_id(admin_http: PlainHttp) -> None:
    mine = f"it's {uuid.uuid4()}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        killed = pool.submit(admin_http.ask, f"/* {mine[5:]} */ {ENDLESS}", {"query_id": mine})
        wait_until(lambda: running(admin_http, mine[5:]))
        assert admin_http.ask("select 1", {"query_id": mine}).code == "216"
        literal = mine.replace("'", "\\'")
        admin_http.query(f"kill query where query_id = '{literal}' sync")
        assert killed.result().code == "394"


def test_client_leaving_cancels_its_query(admin_http: PlainHttp) -> None:
    mark = f"left {uuid.uuid4()}"
    connection = admin_http.connection()
    connection.request("POST", "/", body=f"/* {mark} */ {ENDLESS}", headers=admin_http.headers())
    wait_until(lambda: running(admin_http, mark))
    connection.close()
    wait_until(lambda: not running(admin_http, mark))


def test_client_leaving_a_result_half_read_cancels_its_query(admin_http: PlainHttp) -> None:
    mark = f"half {uuid.uuid4()}"
    connection = admin_http.connection()
    statement = f"/* {mark} */ select number from numbers(100000000000)"
    connection.request("POST", "/", body=statement, headers=admin_http.headers())
    response = connection.getresponse()
    assert response.read(100)
    assert running(admin_http, mark)
    response.close()
    connection.close()
    wait_until(lambda: not running(admin_http, mark))


def test_statement_that_writes_is_done_though_its_client_leaves(
    admin_http: PlainHttp, table: str
) -> None:
    mark = f"writes {uuid.uuid4()}"
    slowly = "select number, '' from numbers(500) where not sleepEachRow(0.002)"
    statement = f"insert into {table} {slowly}"
    connection = admin_http.connection()
    connection.request("POST", "/", body=f"/* {mark} */ {statement}", headers=admin_http.headers())
    wait_until(lambda: running(admin_http, mark))
    connection.close()
    wait_until(lambda: not running(admin_http, mark))
    assert admin_http.query(f"select count() from {table}") == "500\n"


def test_many_requests_at_once_are_answered(admin_http: PlainHttp, table: str) -> None:
    def write_and_read(number: int) -> str:
        admin_http.query(f"insert into {table} values ({number}, 'x')")
        return admin_http.query(f"select b from {table} where a = {number}")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(write_and_read, range(100))) == {"x\n"}
    assert admin_http.query(f"select count() from {table}") == "100\n"


def test_connection_is_kept_alive(admin_http: PlainHttp) -> None:
    connection = admin_http.connection()
    for number in range(3):
        connection.request("POST", "/", body=f"select {number}", headers=admin_http.headers())
        assert connection.getresponse().read() == f"{number}\n".encode()
        connection.request("POST", "/", body="select nope", headers=admin_http.headers())
        assert connection.getresponse().read().startswith(b"Code: 47")
    connection.close()


def test_too_many_queries_are_refused_with_503(tmp_path: Path) -> None:
    server = ClickHouseProcess(tmp_path / "data", arguments=("--most-queries", "2")).start()
    http = PlainHttp(server, server.user, server.password)

    def occupy() -> None:
        while http.ask(ENDLESS).status == 503:
            pass

    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            occupied = [pool.submit(occupy) for _ in range(2)]
            # A question takes a place, too, so an occupant may have to try again.
            wait_until(lambda: all(http.ask("select 1").status == 503 for _ in range(5)))
            answer = http.ask("select 1")
            assert (answer.status, answer.code) == (503, "202")
            assert http.ask(method="GET", path="/ping").status == 200
            assert not any(future.done() for future in occupied)
            assert server.stop() == 0
    finally:
        server.stop()


def test_insert_that_the_table_refuses_before_the_first_row_is_an_error(
    admin_http: PlainHttp, table: str
) -> None:
    admin_http.query(f"system stop merges {table}")
    admin_http.query(
        f"alter table {table} modify setting parts_to_throw_insert = 2, parts_to_delay_insert = 0"
    )
    answers = [
        admin_http.ask(f'insert into {table} format JSONEachRow {{"a": {number}}}')
        for number in range(4)
    ]
    assert [answer.status for answer in answers] == [200, 200, 500, 500]
    assert "Code: 252." in answers[2].text
    assert "(TOO_MANY_PARTS)" in answers[2].text
    assert admin_http.query(f"select count() from {table}") == "2\n"
