"""Finding an INSERT's data and a result's format in the text of a statement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.clickhouse_statement import (
    first_word,
    identifier,
    insert_head,
    is_select,
    quote,
    select_tail,
    tokens,
    write_into,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"insert into t values (1)", ("insert into t", "Values", b" (1)")),
        (b"insert into t(a) format CSV\n1", ("insert into t(a)", "CSV", b"1")),
        (b"insert into t format TSV\r\n1", ("insert into t", "TSV", b"1")),
        (b"insert into t format JSONEachRow {}", ("insert into t", "JSONEachRow", b"{}")),
        (b"insert into t format CSV\n\n1", ("insert into t", "CSV", b"\n1")),
        (b"INSERT INTO t FORMAT Values (1)", ("INSERT INTO t", "Values", b" (1)")),
        (
            b"INSERT INTO `a`.`b` (`x`, `format`) FORMAT Native\n\x01",
            ("INSERT INTO `a`.`b` (`x`, `format`)", "Native", b"\x01"),
        ),
        (b"insert into format format CSV 1", ("insert into format", "CSV", b"1")),
        (b"insert into d.format values (1)", ("insert into d.format", "Values", b" (1)")),
        (b"insert into a . b format CSV 1", ("insert into a . b", "CSV", b"1")),
        (b"insert into values values (1)", ("insert into values", "Values", b" (1)")),
        (
            b"insert into function file('x', 'CSV') format TSV 1",
            ("insert into function file('x', 'CSV')", "TSV", b"1"),
        ),
        (
            b"insert into table t settings a=1, b='format x' values(1)",
            ("insert into table t settings a=1, b='format x'", "Values", b"(1)"),
        ),
        (b"/* format A */ insert into t format B 1", ("/* format A */ insert into t", "B", b"1")),
    ],
)
def test_insert_head_ends_before_its_data(text: bytes, expected: tuple[str, str, bytes]) -> None:
    head = insert_head(text)
    assert head is not None
    assert (head.statement.decode().strip(), head.format, text[head.data_start :]) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"insert into t select 1 format CSV",
        b"insert into t select a from b",
        b"insert into t select a as input, 1 format CSV",
        b"insert into t with 1 as x select x",
        b"insert into t from infile 'x' format CSV",
        b"insert into t",
        b"select 'insert into t format CSV'",
        b"",
    ],
)
def test_insert_head_is_none_without_rows(text: bytes) -> None:
    assert insert_head(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b"insert into t select * from input('a Int8') format CSV 1",
            b"file('/p', 'CSV', 'a Int8')",
        ),
        (b"insert into t select * from input() format CSV 1", b"file('/p', 'CSV')"),
    ],
)
def test_insert_from_input_can_read_a_file(text: bytes, expected: bytes) -> None:
    head = insert_head(text)
    assert head is not None
    assert text[head.data_start :] == b"1"
    assert head.reading("/p").strip() == b"insert into t select * from " + expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"select 1", None),
        (b"select 1 format JSON", "JSON"),
        (b"select 1 format JSON settings a=1;", "JSON"),
        (b"select 1 -- format JSON", None),
        (b"select format('a') from t", None),
        (b"select 'x format JSON'", None),
        (b"select 1 as format", None),
        (b"select t.format a", None),
        (b"select * from format f", None),
        (b"select 1 as a, format f", None),
        (b"select * from format format JSON", "JSON"),
        (b"select * format JSON", "JSON"),
        (b"select a from t limit 1 format JSON", "JSON"),
        (b"select 1, 2, 3 , 4 format JSON", "JSON"),
        (b"select [1] format JSON", "JSON"),
        (b"select 1 as `format` format JSON", "JSON"),
        (b"show tables format JSON", "JSON"),
        (b"select (select 1 format JSON)", None),
        (b"select $$ format JSON $$ format CSV", "CSV"),
        (b"select $x$ format JSON $x$", None),
        (b"select `a format JSON`, 'it''s', 'a\\'b' format TSV /* format JSON */", "TSV"),
        (b"select a, count() from t group by all order by all FORMAT Native", "Native"),
    ],
)
def test_select_tail_gives_the_format(text: bytes, expected: str | None) -> None:
    assert select_tail(text).format == expected


def test_write_into_keeps_what_follows_the_format() -> None:
    text = write_into(b"select 1 format JSON settings max_threads = 1", "/p", "TSV")
    expected = b"select 1 INTO OUTFILE '/p' APPEND format JSON settings max_threads = 1"
    assert text.split() == expected.split()


def test_write_into_names_the_default_format_before_a_comment() -> None:
    assert write_into(b"select 1; -- all", "/p", "TSV").split() == (
        b"select 1 INTO OUTFILE '/p' APPEND FORMAT `TSV`".split()
    )


@pytest.mark.parametrize(
    "text", [b"select 1", b"((select 1))", b"-- x\nWITH a", b"from t select 1"]
)
def test_is_select_in_every_spelling(text: bytes) -> None:
    assert is_select(text)


def test_first_word_is_empty_without_one() -> None:
    assert first_word(b" -- only a comment") == b""


@given(st.binary())
def test_tokens_cover_any_bytes_in_order(text: bytes) -> None:
    end = 0
    for token in tokens(text):
        assert token.start >= end
        assert text[token.start : token.end] == token.text
        end = token.end


@given(st.binary())
def test_quoted_text_is_one_token(value: bytes) -> None:
    assert [token.kind for token in tokens(quote(value))] == ["string"]


@given(st.text())
def test_quoted_name_is_one_token(name: str) -> None:
    assert [token.kind for token in tokens(identifier(name))] == ["quoted"]
