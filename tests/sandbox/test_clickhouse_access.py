"""Who gets in, and that the analyst reads databases and nothing else."""

from __future__ import annotations

import base64
import concurrent.futures
import hmac
import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sandbox.clickhouse_access import Accounts
from sandbox.clickhouse_engine import ClickHouseError
from sandbox.clickhouse_request import Request
from tests.sandbox.clickhouse_http import ENDLESS, PlainHttp, running, wait_until

# Secrets that attacks look for; the server's answers must never have one.
CANARY = "canary-that-nobody-may-read"


@dataclass(frozen=True)
class Surroundings:
    """A host and a file system around the server, to be reached for."""

    folder: Path
    host: str
    visits: list[str]

    def fill(self, statement: str) -> str:
        return statement.replace("HOST", self.host).replace("FOLDER", str(self.folder))


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "canary.csv").write_text(CANARY + "\n")
    database = sqlite3.connect(folder / "canary.db")
    database.execute("create table canary (word text)")
    database.execute("insert into canary values (?)", [CANARY])
    database.commit()
    database.close()
    visits: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def note_visits() -> None:
        while True:
            try:
                visitor, address = listener.accept()
            except OSError:
                return
            visits.append(str(address))
            visitor.close()

    thread = threading.Thread(target=note_visits, daemon=True)
    thread.start()
    yield Surroundings(folder, f"127.0.0.1:{listener.getsockname()[1]}", visits)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture(scope="module", autouse=True)
def tables(clickhouse_server) -> None:  # type: ignore[no-untyped-def]
    client = clickhouse_server.client()
    client.command("create database if not exists shop")
    client.command("create or replace table shop.orders (id UInt32, city String) order by id")
    client.command("insert into shop.orders values (1, 'Rome'), (2, 'Oslo')")
    client.command("create or replace view shop.cities as select city from shop.orders")
    client.close()


def test_wrong_password_is_error_516(admin_http: PlainHttp) -> None:
    answer = replace(admin_http, password="guess").ask("select 1")
    assert (answer.status, answer.code) == (403, "516")
    assert answer.text.startswith("Code: 516. DB::Exception: default: Authentication failed")
    assert answer.text.rstrip().split("(")[-2].startswith("AUTHENTICATION_FAILED)")


def test_unknown_user_gets_the_answer_of_a_wrong_password(admin_http: PlainHttp) -> None:
    unknown = replace(admin_http, user="nobody").ask("select 1")
    wrong = replace(admin_http, password="guess").ask("select 1")
    assert unknown.text.replace("nobody", "default") == wrong.text


def test_no_credentials_are_refused_where_a_password_is_set(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1", headers={"Authorization": ""}).code == "516"


@pytest.mark.parametrize("value", ["!!!", "\xe9", "/w==", "", "ZGVmYXVsdA=="])
def test_damaged_authorization_is_refused(admin_http: PlainHttp, value: str) -> None:
    assert admin_http.ask("select 1", headers={"Authorization": f"Basic {value}"}).code == "516"


def test_password_of_any_letters_is_taken_from_everywhere() -> None:
    accounts = Accounts({"default": "pässwörd✓"})
    token = base64.b64encode("default:pässwörd✓".encode())
    for headers, query in (
        ([(b"authorization", b"Basic " + token)], ""),
        ([(b"x-clickhouse-key", "pässwörd✓".encode())], ""),
        ([], urlencode({"password": "pässwörd✓"})),
    ):
        scope = {"method": "GET", "path": "/", "headers": headers, "query_string": query.encode()}
        assert accounts.authenticate(*Request.from_scope(scope).credentials()).name == "default"


def test_passwords_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(expected: bytes, given: bytes) -> bool:
        compared.append((expected, given))
        return expected == given

    monkeypatch.setattr(hmac, "compare_digest", compare)
    accounts = Accounts({"default": "right"})
    assert accounts.authenticate("default", "right").name == "default"
    for name in ("default", "nobody"):
        with pytest.raises(ClickHouseError, match="AUTHENTICATION_FAILED"):
            accounts.authenticate(name, "wrong")
    # For somebody who does not exist, too, or the time would tell.
    assert compared == [(b"right", b"right"), (b"right", b"wrong"), (b"", b"wrong")]


def test_role_is_the_administrators_or_none(admin_http: PlainHttp, analyst_http: PlainHttp) -> None:
    assert admin_http.query("select 1", role="administrator") == "1\n"
    for http, role, status, code in (
        (admin_http, "nobody", 404, "511"),
        (analyst_http, "nobody", 404, "511"),
        (analyst_http, "administrator", 403, "512"),
    ):
        answer = http.ask("select 1", {"role": role})
        assert (answer.status, answer.code) == (status, code)


def test_credentials_may_come_as_headers_or_in_the_url(admin_http: PlainHttp) -> None:
    nothing = {"Authorization": ""}
    headers = {"X-ClickHouse-User": admin_http.user, "X-ClickHouse-Key": admin_http.password}
    assert admin_http.ask("select 1", headers={**nothing, **headers}).text == "1\n"
    parameters = {"user": admin_http.user, "password": admin_http.password}
    assert admin_http.ask("select 1", parameters, nothing).text == "1\n"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select count() from shop.orders", "2"),
        ("select city from shop.cities order by city limit 1", "Oslo"),
        ("with (select 1) as one select one", "1"),
        ("(select 1) union distinct (select 1)", "1"),
        ("select 'file(''x'')'", "file(\\'x\\')"),
        ("exists table shop.orders", "1"),
        ("select count() from view(select 1)", "1"),
        ("select sum(number) from numbers(3)", "3"),
        ("select toUInt64(value) from system.settings where name = 'max_execution_time'", "0"),
        ("select getSetting('max_execution_time') settings max_execution_time = 7", "7"),
        ("select name from system.databases where name = 'shop'", "shop"),
        ("select getSetting('readonly') > 0", "1"),
        ("select readonly from system.settings where name = 'max_execution_time'", "0"),
        ("/* a comment */ select 1 -- file('x')", "1"),
        ("select formatQuery('select 1 from file(''x'')') != ''", "1"),
    ],
)
def test_analyst_reads(analyst_http: PlainHttp, statement: str, expected: str) -> None:
    assert analyst_http.query(statement) == expected + "\n"


@pytest.mark.parametrize(
    "statement", ["describe table shop.orders", "show tables from shop", "explain select 1"]
)
def test_analyst_sees_what_there_is(analyst_http: PlainHttp, statement: str) -> None:
    assert analyst_http.query(statement)


def test_analyst_changes_execution_time_and_output_in_the_url(analyst_http: PlainHttp) -> None:
    assert (
        analyst_http.query("select getSetting('max_execution_time')", max_execution_time="9")
        == "9\n"
    )
    assert analyst_http.ask(
        "select sleepEachRow(1) from numbers(9)", {"max_execution_time": "1"}
    ).code
    text = analyst_http.query(
        "select 1 as a format JSON", output_format_json_quote_64bit_integers="0"
    )
    assert '"a": 1' in text


def test_analyst_session_keeps_use_and_allowed_settings(analyst_http: PlainHttp) -> None:
    session = {"session_id": "analyst-keeps"}
    assert analyst_http.query("use shop", **session) == ""
    assert analyst_http.query("set max_execution_time = 11", **session) == ""
    assert analyst_http.query("select count() from orders", **session) == "2\n"
    assert analyst_http.query("select getSetting('max_execution_time')", **session) == "11\n"
    assert analyst_http.ask("set max_memory_usage = 1", session).code == "164"
    assert analyst_http.query("select getSetting('readonly') > 0", **session) == "1\n"


@pytest.mark.parametrize(
    "name", ["max_memory_usage", "readonly", "max_threads", "format_schema", "output_format_schema"]
)
def test_analyst_cannot_change_other_settings(analyst_http: PlainHttp, name: str) -> None:
    assert analyst_http.ask("select 1", {name: "77"}).code in ("164", "115")
    assert analyst_http.ask(f"select 1 settings {name} = '77'").code in ("164", "115")


@pytest.mark.parametrize(
    "statement",
    [
        "create table shop.mine (a Int8) order by a",
        "create temporary table mine (a Int8)",
        "create view shop.mine as select 1",
        "create database mine",
        "create function mine as x -> x",
        "create dictionary shop.mine (a Int8) primary key a source(file(path 'FOLDER/canary.csv' "
        "format 'CSV')) layout(flat()) lifetime(0)",
        "create table shop.mine (a String) engine = File(CSV, 'FOLDER/canary.csv')",
        "create table shop.mine (a String) engine = URL('http://HOST/', CSV)",
        "create user mine",
        "create named collection mine as a = 1",
        "attach table shop.mine from 'FOLDER' (a Int8) engine = MergeTree order by a",
        "insert into shop.orders values (3, 'Bern')",
        "insert into shop.orders select 3, 'Bern'",
        "insert into shop.orders format CSV\n3,Bern\n",
        "insert into function file('FOLDER/written.csv') select 1",
        "insert into function url('http://HOST/', CSV) select 1",
        "insert into function null('a Int8') values (1)",
        "alter table shop.orders delete where 1",
        "alter table shop.orders update city = '' where 1",
        "delete from shop.orders where 1",
        "update shop.orders set city = '' where 1",
        "truncate table shop.orders",
        "drop table shop.orders",
        "detach table shop.orders",
        "rename table shop.orders to shop.mine",
        "exchange tables shop.orders and shop.cities",
        "optimize table shop.orders final",
        "system flush logs",
        "system stop merges",
        "system shutdown",
        "kill query where 1",
        "grant all on *.* to default",
        "revoke all on *.* from default",
        "set role administrator",
        "set default role all to default",
        "set readonly = 0",
        "set max_memory_usage = 0",
        "set max_execution_time = 1, readonly = 0",
        "set param_x = 1",
        "execute as default select 1",
        "backup database shop to File('FOLDER/backup')",
        "restore database shop from File('FOLDER/backup')",
        "begin transaction",
        "select 1 into outfile 'FOLDER/written.csv'",
        "select 1 into outfile 'FOLDER/written.csv' truncate format CSV",
        "(select 1) into outfile 'FOLDER/written.csv'",
        "with 1 as a select a into outfile 'FOLDER/written.csv'",
        "select 1 union all select 2 into outfile 'FOLDER/written.csv'",
        "from system.one select 1 into outfile 'FOLDER/written.csv'",
        "explain select 1 into outfile 'FOLDER/written.csv'",
        "show databases into outfile 'FOLDER/written.csv'",
        "show tables from shop into outfile 'FOLDER/written.csv'",
        "show create table shop.orders into outfile 'FOLDER/written.csv'",
        "describe table shop.orders into outfile 'FOLDER/written.csv'",
        "exists table shop.orders into outfile 'FOLDER/written.csv'",
        "check table shop.orders into outfile 'FOLDER/written.csv'",
        "select 1; drop table shop.orders",
        "select 1 parallel with drop table shop.orders",
        "explain analyze insert into shop.orders values (3, '')",
        "copy shop.orders to 'FOLDER/written.csv'",
        "load data infile 'FOLDER/canary.csv' into table shop.orders",
    ],
)
def test_analyst_changes_nothing(
    analyst_http: PlainHttp, admin_http: PlainHttp, surroundings: Surroundings, statement: str
) -> None:
    answer = analyst_http.ask(surroundings.fill(statement))
    assert answer.status >= 400, answer.text
    assert answer.code in ("48", "62", "164", "497"), answer.text
    assert admin_http.query("select groupArray(city) from shop.orders") == "['Rome','Oslo']\n"
    assert not (surroundings.folder / "written.csv").exists()
    assert not surroundings.visits


AZURE = "'DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aaaa;BlobEndpoint=http://HOST/a'"
# Everything that reads from elsewhere, as a source in FROM.
TABLE_FUNCTIONS = [
    "arrowFlight('HOST', 'd')",
    "arrowstream(x)",
    f"azureBlobStorage({AZURE}, 'c', 'b', 'CSV')",
    "bigquery('p', 'd', 't')",
    "cluster('default', shop.orders)",
    "deltaLake('http://HOST/bucket/key')",
    "deltaLakeLocal('FOLDER')",
    "dictionary('x')",
    "eval('select 1')",
    "executable('canary.csv', CSV, 'a String')",
    "file('FOLDER/canary.csv')",
    "file('FOLDER/canary.csv', 'CSV', 'a String')",
    "file('FOLDER/*')",
    "fileCluster('default', 'FOLDER/canary.csv')",
    "filesystem('FOLDER')",
    "gcs('http://HOST/bucket/key', 'CSV')",
    "hdfs('hdfs://HOST/x', 'CSV', 'a Int8')",
    "hudi('http://HOST/bucket/key')",
    "iceberg('http://HOST/bucket/key')",
    "icebergLocal('FOLDER')",
    "jdbc('x', 't')",
    "mongodb('HOST', 'd', 't', 'u', 'p', 'a Int8')",
    "mysql('HOST', 'd', 't', 'u', 'p')",
    "odbc('x', 't')",
    "paimonLocal('FOLDER')",
    "postgresql('HOST', 'd', 't', 'u', 'p')",
    "python(x)",
    "Python(sys)",
    "redis('HOST', 'a', 'a Int8')",
    "remote('HOST', 'd', 't')",
    "remote('127.0.0.1', shop.orders)",
    "remoteSecure('HOST', 'd', 't')",
    "s3('http://HOST/bucket/key', 'CSV')",
    "s3('http://HOST/bucket/key', 'CSV', 'a Int8')",
    "s3Cluster('default', 'http://HOST/bucket/key', 'CSV')",
    "sqlite('FOLDER/canary.db', 'canary')",
    "url('http://HOST/', 'CSV')",
    "url('http://HOST/', 'CSV', 'a Int8')",
    "urlCluster('default', 'http://HOST/', 'CSV')",
    "ytsaurus('http://HOST', 'a', 'b', 'a Int8')",
    "SQLStandardValues((file('FOLDER/canary.csv')))",
    *(f"{name}({AZURE}, 'c', 'b')" for name in ("deltaLakeAzure", "icebergAzure", "paimonAzure")),
    *(
        f"{name}Cluster('default', {AZURE}, 'c', 'b')"
        for name in ("azureBlobStorage", "deltaLakeAzure", "icebergAzure", "paimonAzure")
    ),
    "clusterAllReplicas('default', shop.orders)",
    *(
        f"{name}('http://HOST/bucket/key', 'CSV', 'a Int8')"
        for name in ("cosn", "deltaLakeS3", "icebergS3", "oss", "paimon", "paimonS3")
    ),
    *(f"{name}('hdfs://HOST/x', 'CSV', 'a Int8')" for name in ("icebergHDFS", "paimonHDFS")),
    *(
        f"{name}Cluster('default', 'http://HOST/bucket/key', 'CSV', 'a Int8')"
        for name in (
            *("deltaLake", "deltaLakeS3", "hdfs", "hudi", "iceberg", "icebergHDFS", "icebergS3"),
            *("paimon", "paimonHDFS", "paimonS3"),
        )
    ),
    "icebergLocalCluster('default', 'FOLDER')",
]


# Those that read from nowhere, or from databases only, where the grants hold.
HARMLESS_TABLE_FUNCTIONS = {
    *("format", "fuzzJSON", "fuzzQuery", "generateRandom", "generateSeries", "generate_series"),
    *("input", "loop", "merge", "mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID"),
    *("mergeTreeCodecBlockCounts", "mergeTreeIndex", "mergeTreeProjection", "mergeTreeTextIndex"),
    *("null", "numbers", "numbers_mt", "primes", "prometheusQuery", "prometheusQueryRange"),
    *("timeSeriesData", "timeSeriesMetricFamilies", "timeSeriesMetrics", "timeSeriesSamples"),
    *("timeSeriesSelector", "timeSeriesTags", "values", "view", "viewExplain", "viewIfPermitted"),
    *("zeros", "zeros_mt"),
}


def test_every_table_function_is_tried(admin_http: PlainHttp) -> None:
    names = set(admin_http.query("select name from system.table_functions").split())
    tried = {source.partition("(")[0] for source in TABLE_FUNCTIONS}
    assert names - tried == HARMLESS_TABLE_FUNCTIONS


@pytest.mark.parametrize("source", TABLE_FUNCTIONS)
@pytest.mark.parametrize(
    "form", ["select * from {}", "describe table {}", "explain select * from {}"]
)
def test_analyst_reaches_nothing_outside(
    analyst_http: PlainHttp, surroundings: Surroundings, source: str, form: str
) -> None:
    answer = analyst_http.ask(surroundings.fill(form.format(source)))
    # What needs no look at the source, its structure being given, may be answered.
    assert answer.status >= 400 or not form.startswith("select")
    assert CANARY not in answer.text
    assert not surroundings.visits


@pytest.mark.parametrize(
    "statement",
    [
        "select file('FOLDER/canary.csv')",
        "select `file`('FOLDER/canary.csv')",
        "select \"file\"('FOLDER/canary.csv')",
        "select `fi\\x6ce`('FOLDER/canary.csv')",
        "select/**/file/**/('FOLDER/canary.csv')",
        "SELECT FILE('FOLDER/canary.csv')",
        "select arrayMap(file, ['FOLDER/canary.csv'])",
        "select arrayMap(x -> file(x), ['FOLDER/canary.csv'])",
        "select * apply file from (select 'FOLDER/canary.csv')",
        "select * apply(x -> file(x)) from (select 'FOLDER/canary.csv')",
        "select columns('a') apply(file) from (select 'FOLDER/canary.csv' as a)",
        "with file('FOLDER/canary.csv') as a select a",
        "with x -> file(x) as read select read('FOLDER/canary.csv')",
        "select * from (select * from file('FOLDER/canary.csv'))",
        "select 1 where 1 in (select count() from file('FOLDER/canary.csv'))",
        "select * from shop.orders join file('FOLDER/canary.csv') as f on 1 = 1",
        "select * from view(select * from file('FOLDER/canary.csv'))",
        "select * from viewIfPermitted(select * from file('FOLDER/canary.csv') "
        "else null('a String'))",
        "select * from FiLe('FOLDER/canary.csv')",
        "select * from\nfile\n('FOLDER/canary.csv')",
        "select * from `FOLDER/canary.csv`",
        "select * from default.`FOLDER/canary.csv`",
        "select * from 'FOLDER/canary.csv'",
        "select * from merge('', '.*canary.*')",
        "select * from loop(file('FOLDER/canary.csv'))",
        "from file('FOLDER/canary.csv') select *",
        "table file('FOLDER/canary.csv')",
        "select 1 union all select length(file('FOLDER/canary.csv'))",
        "explain estimate select * from file('FOLDER/canary.csv')",
        "explain table override file('FOLDER/canary.csv')",
        "show create table file('FOLDER/canary.csv')",
        "desc file('FOLDER/canary.csv')",
        "select aiGenerate('x', 'hello')",
        "select catboostEvaluate('FOLDER/canary.csv', 1)",
        "select * from executable('cat FOLDER/canary.csv', TSV, 'a String')",
        "select addressToLine(1)",
        "select demangle('_ZN')",
        "select * from numbers(1) settings format_schema = 'FOLDER/canary.csv'",
        "select * from input('a String')",
    ],
)
def test_analyst_cannot_disguise_reading_a_file(
    analyst_http: PlainHttp, surroundings: Surroundings, statement: str
) -> None:
    answer = analyst_http.ask(surroundings.fill(statement))
    assert answer.status >= 400, answer.text
    assert CANARY not in answer.text
    assert not surroundings.visits


def test_view_over_a_file_is_closed_to_the_analyst(
    admin_http: PlainHttp, analyst_http: PlainHttp, surroundings: Surroundings
) -> None:
    path = surroundings.folder / "canary.csv"
    admin_http.query(
        f"create or replace view shop.leak as select * from file('{path}', LineAsString)"
    )
    assert CANARY in admin_http.query("select * from shop.leak")
    answer = analyst_http.ask("select * from shop.leak")
    admin_http.query("drop view shop.leak")
    assert answer.code == "497"


@pytest.mark.parametrize(
    "table", ["users", "roles", "grants", "quotas", "settings_profiles", "row_policies"]
)
def test_analyst_sees_no_accounts(analyst_http: PlainHttp, table: str) -> None:
    assert analyst_http.ask(f"select * from system.{table}").code == "497"


@pytest.mark.parametrize("source", ["system.processes", "merge('system', '^processes$')"])
def test_analyst_sees_no_statements_of_others(
    admin_http: PlainHttp, analyst_http: PlainHttp, source: str
) -> None:
    assert analyst_http.query(f"select count() from {source}") == "0\n"
    assert admin_http.query("select count() > 0 from system.processes") == "1\n"


def test_analyst_cannot_bring_tables_along(analyst_http: PlainHttp) -> None:
    boundary = "XX"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n'
        f"--{boundary}--\r\n"
    )
    answer = analyst_http.ask(
        body,
        {"query": "select * from t", "t_structure": "a String default file('/etc/hostname')"},
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    assert answer.code == "164"


@pytest.mark.conformance
def test_no_function_gives_the_analyst_a_file(
    admin_http: PlainHttp, analyst_http: PlainHttp, surroundings: Surroundings
) -> None:
    """Call every function of the engine with a path, an address, and both in either order."""
    path = str(surroundings.folder / "canary.csv")
    url = f"http://{surroundings.host}/"
    functions = admin_http.query("select name from system.functions order by name").split()
    tables = admin_http.query("select name from system.table_functions order by name").split()
    given = (f"'{path}'", f"'{url}'", f"'{path}', 'CSV'", f"'{url}', 'CSV'", f"'CSV', '{path}'")
    statements = [f"select {name}({some})" for name in functions for some in given]
    statements += [f"select * from {name}({some}) limit 10" for name in tables for some in given]
    assert len(statements) > 5000
    slow = {"max_execution_time": "1", "max_result_rows": "100", "result_overflow_mode": "break"}
    for statement in statements:
        answer = analyst_http.ask(statement, slow)
        assert CANARY.encode() not in answer.body, statement
        assert not surroundings.visits, statement


@pytest.mark.conformance
def test_no_system_table_gives_the_analyst_a_secret(
    admin_http: PlainHttp, analyst_http: PlainHttp
) -> None:
    """Read every system table while a statement of the administrator's runs and after others."""
    secret = "secret-of-the-administrator"
    admin_http.ask(f"select '{secret}', nope")
    admin_http.query(f"create or replace view shop.view_of_secret as select '{secret}' as a")
    admin_http.query("drop view shop.view_of_secret")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running_one = pool.submit(admin_http.ask, f"/* {secret} */ {ENDLESS}")
        try:
            wait_until(lambda: running(admin_http, secret))
            names = admin_http.query(
                "select name from system.tables where database = 'system' order by name"
            )
            for name in names.split():
                answer = analyst_http.ask(f"select * from system.`{name}` limit 100000")
                assert secret.encode() not in answer.body, name
        finally:
            admin_http.query("kill query where query like '%cityHash64(number)%' sync")
        assert running_one.result().code == "394"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8123", "127.0.0.1.evil.example", "[::1", "[evil]"),
        *("localhost.evil.example", "localhost@evil.example", "evil.example#localhost", "é"),
    ],
)
def test_foreign_host_header_is_refused(admin_http: PlainHttp, host: str) -> None:
    assert admin_http.ask("select 1", headers={"Host": host}).status == 403
    assert admin_http.ask(method="GET", path="/ping", headers={"Host": host}).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8123", "10.1.2.3"])
def test_address_as_host_header_is_served(admin_http: PlainHttp, host: str) -> None:
    assert admin_http.ask("select 1", headers={"Host": host}).status == 200


def test_own_name_as_host_header_is_served() -> None:
    request = Request("GET", "/", {"host": "clickhouse.test:8123"}, {})
    assert request.refusal(frozenset({"clickhouse.test"})) is None
    assert request.refusal(frozenset({"test"}))


def test_post_from_another_web_page_is_refused(admin_http: PlainHttp) -> None:
    assert admin_http.ask("select 1", headers={"Origin": "https://evil.example"}).status == 403
    for origin in ("null", "http://[", "https://localhost.evil.example", "file://"):
        assert admin_http.ask("select 1", headers={"Origin": origin}).status == 403
    assert admin_http.ask("select 1", headers={"Origin": "http://localhost:80"}).status == 200
