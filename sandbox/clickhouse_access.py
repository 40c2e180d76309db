"""Who may use the sandbox's ClickHouse, and what the read-only analyst may run.

Reading and writing is decided by the engine: an analyst's connection has only a reader's grants
(see `clickhouse_engine`) and `readonly` is set. This module adds what these do not cover.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.clickhouse_engine import ADMINISTRATORS_ROLE, ClickHouseError, Connection

ADMINISTRATOR = "default"
ANALYST = "analyst"

# What an analyst may set: limits on time and rows, and how results are written.
_ANALYST_SETTINGS = frozenset(
    {
        "cast_string_to_dynamic_use_inference", "date_time_input_format",
        "date_time_output_format", "extremes", "format_csv_delimiter", "join_use_nulls", "limit",
        "log_comment", "max_execution_time", "max_result_bytes", "max_result_rows", "offset",
        "output_format_arrow_compression_method", "output_format_arrow_string_as_string",
        "output_format_csv_crlf_end_of_line", "output_format_decimal_trailing_zeros",
        "output_format_json_named_tuples_as_objects", "output_format_json_quote_64bit_floats",
        "output_format_json_quote_64bit_integers", "output_format_json_quote_decimals",
        "output_format_json_quote_denormals", "output_format_native_encode_types_in_binary_format",
        "output_format_native_use_flattened_dynamic_and_json_serialization",
        "output_format_parquet_compression_method", "output_format_parquet_string_as_string",
        "output_format_pretty_color", "output_format_pretty_max_rows",
        "output_format_tsv_crlf_end_of_line", "result_overflow_mode", "session_timezone",
        "timeout_overflow_mode",
    }
)  # fmt: skip

# Functions that reach beyond the databases although the engine's grants let them pass: they read
# files, look into this process, call services or run text as SQL. By name alone, because functions
# can be handed over without brackets: arrayMap(file, ['…']).
_FORBIDDEN = re.compile(
    rb"(?<![A-Za-z0-9_])"
    rb"(file|python|arrowstream|eval|ai(?:Classify|Embed|Extract|Filter|Generate|Redact|Similarity"
    rb"|Translate))"
    rb"(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_LITERAL = re.compile(rb"'(?:[^'\\]|\\.)*'", re.DOTALL)
_ASSIGNMENT = rb"(\w+) = (-?[\w.]+|'(?:[^'\\]|\\.)*')"
_SETTINGS_CLAUSE = re.compile(
    rb"(?:^SET|\bSETTINGS) (" + _ASSIGNMENT + rb"(?:, " + _ASSIGNMENT + rb")*)"
)


@dataclass(frozen=True)
class User:
    """Somebody who is allowed in."""

    name: str
    is_analyst: bool


@dataclass(frozen=True)
class Accounts:
    """The accounts by name. The analyst is one only where a password is given for it."""

    passwords: Mapping[str, str] = field(repr=False)

    def authenticate(self, name: str, password: str) -> User:
        """Give the user, or raise error 516 without saying which of the two was wrong."""
        expected = self.passwords.get(name)
        matches = hmac.compare_digest(
            (expected or "").encode("utf-8", "surrogateescape"),
            password.encode("utf-8", "surrogateescape"),
        )
        if expected is None or not matches:
            raise ClickHouseError(
                516,
                "AUTHENTICATION_FAILED",
                f"{name}: Authentication failed: password is incorrect, "
                "or there is no user with such name.",
            )
        return User(name, name == ANALYST)


def check_role(user: User, role: str) -> None:
    """Raise unless `user` has the role that a request asks for, '' being none.

    There is one, and who has it uses it anyway.
    """
    if role and role != ADMINISTRATORS_ROLE:
        raise ClickHouseError(511, "UNKNOWN_ROLE", f"There is no role `{role}`")
    if role and user.is_analyst:
        raise ClickHouseError(
            512, "SET_NON_GRANTED_ROLE", f"Role {role} should be granted to set as a current"
        )


@dataclass(frozen=True)
class AnalystStatement:
    """A statement that an analyst may run."""

    # Settings that it makes itself and may make. They are put on the connection beforehand, since
    # `readonly = 1` only lets pass what is so already.
    settings: Mapping[str, str]
    # Whether it sets anything. Then `readonly` must be 1; else 2 is as good, with which clients
    # see in system.settings that they may change some.
    changes_settings: bool


def check_analyst_statement(connection: Connection, statement: bytes) -> AnalystStatement:
    """Raise unless `statement` only reads, and only databases.

    The engine itself classifies the text and writes it anew in its own canonical form (no
    comments, no needlessly quoted or escaped names, one way to write a literal), in which names
    are looked up.
    """
    kind = connection.classify(statement).kind
    canonical = connection.canonical(statement)  # raises where it does not parse
    settings = {
        name.decode(): _unquote(value)
        for clause in _SETTINGS_CLAUSE.finditer(canonical)
        for name, value in re.findall(_ASSIGNMENT, clause.group(1))
    }
    allowed, others = split_analyst_settings(settings)
    is_set = re.fullmatch(_SETTINGS_CLAUSE, canonical) is not None and not others
    is_use = re.fullmatch(rb"USE (\w+|`(?:[^`\\]|\\.)*`)", canonical) is not None
    if kind != "READ_ONLY" and not is_set and not is_use:
        raise ClickHouseError(
            164, "READONLY", "Cannot execute query in readonly mode: the analyst may only read."
        )
    names = _LITERAL.sub(b"''", canonical)
    found = _FORBIDDEN.search(names)
    if found:
        raise ClickHouseError(
            497,
            "ACCESS_DENIED",
            f"{ANALYST}: Not enough privileges to use `{found.group().decode()}`: "
            "the analyst reads databases only.",
        )
    return AnalystStatement(allowed, is_set or re.search(rb"\bSETTINGS\b", names) is not None)


def split_analyst_settings(settings: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split settings into those an analyst may change and those it may only state as they are."""
    allowed = {name: value for name, value in settings.items() if name in _ANALYST_SETTINGS}
    return allowed, {name: value for name, value in settings.items() if name not in allowed}


def _unquote(literal: bytes) -> str:
    if literal.startswith(b"'"):
        literal = re.sub(rb"\\(.)", rb"\1", literal[1:-1], flags=re.DOTALL)
    return literal.decode("utf-8", "surrogateescape")
