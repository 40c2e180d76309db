"""One embedded chDB engine behind connections that many requests can use at once.

A process holds one engine over one data folder. A connection costs a fifth of a millisecond and
has its own settings, database, role and temporary tables, so a request (or a session) takes a
fresh one instead of cleaning up a shared one. Calls on one connection are serialised; the engine
releases the interpreter's lock, so several run in parallel. Everything here blocks: callers run
it in threads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import psutil

from sandbox.clickhouse_statement import identifier, quote

# Everything of the demo together stays below 4 GiB.
_LARGEST_MEMORY = 2_500_000_000

_CONFIGURATION = """<clickhouse>
    <display_name>driftline-sandbox</display_name>
    <max_server_memory_usage>{server_memory}</max_server_memory_usage>
    <mark_cache_size>134217728</mark_cache_size>
    <index_mark_cache_size>33554432</index_mark_cache_size>
    <primary_index_cache_size>134217728</primary_index_cache_size>
    <background_pool_size>4</background_pool_size>
    <background_schedule_pool_size>8</background_schedule_pool_size>
    <users_config>{users}</users_config>
    <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
</clickhouse>
"""
# Privileges are the engine's business. Everybody is its user `default`, whose own grants are a
# reader's; an administrator's come with a role, which a reader's connection gives up. System
# tables that show other people's statements are empty without that role.
_USERS = """<clickhouse>
    <profiles>
        <default>
            <max_memory_usage>{query_memory}</max_memory_usage>
            <max_bytes_before_external_group_by>{spill}</max_bytes_before_external_group_by>
            <max_bytes_before_external_sort>{spill}</max_bytes_before_external_sort>
            <implicit_select>0</implicit_select>
            <allow_introspection_functions>0</allow_introspection_functions>
        </default>
    </profiles>
    <roles>
        <administrator>
            <grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants>
        </administrator>
    </roles>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>
                <query>GRANT SHOW, SELECT, dictGet ON *.*</query>
                <query>GRANT administrator</query>
            </grants>
            <databases><system>{filters}</system></databases>
        </default>
    </users>
    <quotas><default/></quotas>
</clickhouse>
"""
ADMINISTRATORS_ROLE = "administrator"
_ADMINISTRATORS_TABLES = (
    "asynchronous_inserts",
    "errors",
    "processes",
    "query_cache",
    "session_query_ids",
    "stack_trace",
    "user_processes",
    "user_query_log",
    "warnings",
)
_FILTER = "<{0}><filter>has(currentRoles(), 'administrator')</filter></{0}>"

# Formats that are chDB's own: objects of Python.
_PYTHON_FORMATS = ("arrowtable", "dataframe", "datastore")

_ERROR = re.compile(r"Code: (\d+)\. [\w:]*Exception: ")
_ERROR_NAME = re.compile(r"\s*\(([A-Z][A-Z0-9_]+)\)\s*$")
_VERSION_SUFFIX = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)\s*$")


class ClickHouseError(Exception):
    """What ClickHouse calls an exception: a code, its name and a message."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({name})")
        self.code = code
        self.name = name
        self.message = message

    @classmethod
    def from_engine(cls, error: Exception) -> ClickHouseError:
        """Read the code and name out of what the engine raised."""
        cause = error.__cause__ or error
        # chDB decodes its message, which may quote any bytes.
        raw = cause.object.decode(errors="replace") if isinstance(cause, UnicodeDecodeError) else ""
        text = _VERSION_SUFFIX.sub("", (raw or str(error)).strip())
        match = _ERROR.search(text)
        if match is None:
            return cls(1001, "STD_EXCEPTION", text or type(error).__name__)
        name = _ERROR_NAME.search(text)
        message = text[match.end() : name.start() if name else len(text)]
        return cls(int(match.group(1)), name.group(1) if name else "UNKNOWN_EXCEPTION", message)


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the engine raises RuntimeError and its kin
        raise ClickHouseError.from_engine(error) from None


@contextmanager
def _row_errors() -> Iterator[None]:
    """Say that rows are wrong where a library that reads their format says so in its own way."""
    try:
        with _engine_errors():
            yield
    except ClickHouseError as error:
        if error.code != 1001:
            raise
        raise ClickHouseError(117, "INCORRECT_DATA", error.message) from None


@dataclass(frozen=True)
class Progress:
    """How much a statement read, wrote and gave."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0

    def as_header(self) -> str:
        """Write this as the X-ClickHouse-Summary header has it: JSON, numbers as strings."""
        values = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        return json.dumps({**values, "total_rows_to_read": "0"}, separators=(",", ":"))


@dataclass(frozen=True)
class StatementClass:
    """What a text would do, as the engine sees it: its kind and how many statements it has."""

    kind: str  # READ_ONLY, MUTATING, MUTATING_GLOBAL, CONTROL; UNKNOWN does not parse
    count: int


class Connection:
    """One connection to the engine. Not for two threads at once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def query(self, sql: bytes, output_format: str = "TabSeparated") -> tuple[memoryview, Progress]:
        """Run a statement and give its whole result, in `output_format` unless it names one."""
        if not output_format.isascii() or output_format.lower() in _PYTHON_FORMATS:
            raise ClickHouseError(73, "UNKNOWN_FORMAT", f"Unknown format {output_format}")
        with _engine_errors():
            result = self._connection.query(sql, output_format)
            return memoryview(result.bytes()), Progress(
                read_rows=result.storage_rows_read(),
                read_bytes=result.storage_bytes_read(),
                written_rows=result.rows_written(),
                written_bytes=result.bytes_written(),
                result_rows=result.rows_read(),
                result_bytes=result.bytes_read(),
            )

    def insert(self, statement: bytes, input_format: str) -> Insert:
        """Begin an INSERT (without its FORMAT clause) whose rows are pushed in `input_format`."""
        with _engine_errors():
            return Insert(self._connection.send_insert(statement, input_format), self)

    def newest_error(self, since: float) -> ClickHouseError | None:
        """Give the engine's newest error, of anybody, not older than `since` (seconds, 1970)."""
        data, _ = self.query(
            b"SELECT code, name, last_error_message FROM system.errors"
            b" WHERE last_error_time >= toDateTime(%d)"
            b" ORDER BY last_error_time DESC, value DESC LIMIT 1" % int(since),
            "JSONCompactEachRow",
        )
        if not len(data):
            return None
        code, name, message = json.loads(bytes(data))
        return ClickHouseError(int(code), name, message)

    def classify(self, sql: bytes) -> StatementClass:
        """Let the engine say what `sql` would do, without running it (about 30 µs)."""
        with _engine_errors():
            verdict = self._connection._conn.classify_query(sql)
        return StatementClass(verdict["query_class"].name, verdict["statement_count"])

    def canonical(self, sql: bytes) -> bytes:
        """Let the engine write `sql` anew: no comments, names quoted only where they must be."""
        try:
            return bytes(self.query(b"SELECT formatQuery(" + quote(sql) + b")", "RawBLOB")[0])
        except ClickHouseError as error:
            message = error.message.split(": In scope SELECT formatQuery(")[0]
            raise ClickHouseError(error.code, error.name, message) from None

    def set(self, settings: Mapping[str, str | None]) -> None:
        """Change settings of this connection (None: to the default).

        Unknown names and bad values raise, and then none is changed.
        """
        if settings:
            pairs = (
                identifier(name) + b" = " + (b"DEFAULT" if value is None else quote(value))
                for name, value in settings.items()
            )
            self.query(b"SET " + b", ".join(pairs))

    def changed_settings(self) -> dict[str, str]:
        """Give the settings that differ from the engine's defaults."""
        rows, _ = self.query(
            b"SELECT name, value FROM system.settings WHERE changed", "JSONCompactEachRow"
        )
        return dict(json.loads(line) for line in bytes(rows).splitlines())

    def forget_parameters(self, names: Iterable[str]) -> None:
        """Unset query parameters that `set` made (as param_NAME), which SQL cannot."""
        with _engine_errors():
            self._connection.query(b"SELECT 1", "Null", params=dict.fromkeys(names, ""))

    def use(self, database: str) -> None:
        """Make `database` the connection's default."""
        self.query(b"USE " + identifier(database))

    def scalar(self, sql: bytes) -> str:
        """Run a statement and give its only value as text."""
        return bytes(self.query(sql, "RawBLOB")[0]).decode("utf-8", "surrogateescape")

    def give_up_administration(self) -> None:
        """Leave this connection with a reader's privileges only."""
        self.query(b"SET ROLE NONE")

    def close(self) -> None:
        """Free the connection with its temporary tables."""
        self._connection.close()


class Insert:
    """An INSERT under way: `append` rows, then `finish`, or `cancel` to write nothing more."""

    def __init__(self, inserter: Any, connection: Connection) -> None:
        self._inserter = inserter
        self._connection = connection
        self._began = time.time()
        self._has_data = False

    def append(self, data: bytes) -> None:
        """Push bytes of the input format; they may be cut anywhere."""
        self._has_data = self._has_data or bool(data)
        with _row_errors():
            self._inserter.append(data)

    def finish(self) -> Progress:
        """Commit what was pushed."""
        with _row_errors():
            result = self._inserter.finish()
        rows, size = result.rows_written, result.bytes_written
        if not rows and self._has_data:
            # chDB 4.4 forgets what the table refused before the first row (TOO_MANY_PARTS). Data
            # that has no rows is the other reason, and then there is no error.
            refused = self._connection.newest_error(self._began)
            if refused is not None:
                raise refused
        return Progress(rows, size, rows, size, rows, size)

    def cancel(self) -> None:
        """Give the insert up. Does nothing once it is finished."""
        with _engine_errors():
            self._inserter.cancel()


class Engine:
    """The embedded engine over `data`, a folder that this process alone uses.

    `memory` is how many bytes the engine may use; by default half of the machine's, at most 2.5 GB.
    """

    def __init__(self, data: Path, memory: int | None = None) -> None:
        data = data.absolute()
        configuration = data / "configuration"
        configuration.mkdir(parents=True, exist_ok=True)
        self.spool = data / "spool"
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir(mode=0o700)
        _write_configuration(
            configuration, memory or min(_LARGEST_MEMORY, psutil.virtual_memory().total // 2)
        )
        # The engine takes a config.xml of the current folder for its own, whoever put it there,
        # and its time zone from the process.
        os.chdir(self.spool)
        os.environ["TZ"] = "UTC"
        from chdb.state.sqlitelike import Connection as ChdbConnection

        self._connect = ChdbConnection
        self._address = f"{data / 'engine'}?config-file={configuration / 'engine.xml'}"
        self._first = self.connect()  # the engine lives as long as one connection does
        self._replace_overlay(data / "engine" / "metadata")
        self.version = self._first.scalar(b"SELECT version()")
        self.time_zone = self._first.scalar(b"SELECT timezone()")
        self.profile = self._first.changed_settings()

    def connect(self) -> Connection:
        """Open a connection with an administrator's privileges."""
        with _engine_errors():
            return Connection(self._connect(self._address))

    def _replace_overlay(self, metadata: Path) -> None:
        """Make `default` a database like every other.

        An embedded engine puts one of its own in that place at every start, which shows files as
        tables besides the tables of the one that is stored.
        """
        tables, definition = metadata / "default", metadata / "default.sql"
        if not os.path.lexists(tables):  # it never had a table
            self._first.query(b"DROP DATABASE default SYNC")
            self._first.query(b"CREATE DATABASE default ENGINE = Atomic")
        elif definition.exists():
            self._first.query(b"DETACH DATABASE default")
            self._first.query(b"ATTACH DATABASE default")

    def running(self, tag: str) -> str:
        """Give the engine's own id of the statement whose log_comment ends with `tag`, or ''."""
        connection = self.connect()
        try:
            return connection.scalar(
                b"SELECT any(query_id) FROM system.processes WHERE "
                b"endsWith(Settings['log_comment'], " + quote(tag) + b")"
            )
        finally:
            connection.close()

    def kill(self, tag: str) -> None:
        """Stop the statement whose log_comment ends with `tag`."""
        self._kill(b"endsWith(Settings['log_comment'], " + quote(tag) + b")")

    def kill_all(self) -> None:
        """Stop every statement that runs."""
        self._kill(b"query_kind != 'KillQuery'")

    def _kill(self, condition: bytes) -> None:
        connection = self.connect()
        try:
            connection.query(b"KILL QUERY WHERE " + condition + b" ASYNC")
        finally:
            connection.close()

    def close(self) -> None:
        """Stop the engine; every other connection must be closed before."""
        self._first.close()
        shutil.rmtree(self.spool, ignore_errors=True)


def _write_configuration(folder: Path, server_memory: int) -> None:
    users = folder / "users.xml"
    users.write_text(
        _USERS.format(
            query_memory=server_memory * 4 // 5,
            spill=server_memory // 4,
            filters="".join(_FILTER.format(table) for table in _ADMINISTRATORS_TABLES),
        )
    )
    (folder / "engine.xml").write_text(
        _CONFIGURATION.format(server_memory=server_memory, users=escape(str(users)))
    )
