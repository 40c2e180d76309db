"""The little that the HTTP server must know of a ClickHouse statement's text.

The engine parses SQL; the server only has to find where an INSERT's data begins and which format a
result is asked in. Text is bytes throughout: a query may hold any bytes in its literals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# One alternative a token, as in ClickHouse, except that a list of numbers is one.
# A quoted one that never ends runs to the end of the text.
_TOKEN = re.compile(
    rb"""
      (?P<skip>   \s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<string> '(?:[^'\\]++|\\.|'')*+(?:'|\Z) | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z) )
    | (?P<quoted> `(?:[^`\\]++|\\.|``)*+(?:`|\Z) | "(?:[^"\\]++|\\.|"")*+(?:"|\Z) )
    | (?P<list>   \d[\w.]*+ (?:[\s,]++\d[\w.]*+)*+ )
    | (?P<word>   [A-Za-z0-9_$\x80-\xff]+ )
    | (?P<sign>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING, _CLOSING = (b"(", b"[", b"{"), (b")", b"]", b"}")
# Not ALL: `order by all FORMAT Native` is common, a column named format after it is not.
_BEFORE_NAME = frozenset(
    b"AND AS BETWEEN BY CASE DESCRIBE DISTINCT ELSE FROM HAVING IN JOIN LIKE LIMIT NOT ON OR "
    b"PREWHERE QUALIFY SELECT THEN USING WHEN WHERE WITH".split()
)
_BEFORE_DATA = re.compile(rb"[ \t\f]*\r?\n?")


class Token(NamedTuple):
    """A lexical unit: kind (word, quoted, string, list or sign), text, place, bracket depth."""

    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    def is_word(self, *words: bytes) -> bool:
        """Tell whether this is one of the keywords, given in upper case."""
        return self.kind == "word" and self.text.upper() in words


def tokens(text: bytes) -> Iterator[Token]:
    """Yield the tokens of `text` without whitespace and comments."""
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "string"
        if kind == "skip":
            continue
        value = match.group()
        if value in _CLOSING:
            depth -= 1
        yield Token(kind, value, match.start(), match.end(), depth)
        if value in _OPENING:
            depth += 1


def first_word(text: bytes) -> bytes:
    """Give the first keyword in upper case, looking through opening brackets; b"" if none."""
    first = next((token for token in tokens(text) if token.text != b"("), None)
    return first.text.upper() if first is not None and first.kind == "word" else b""


def is_select(text: bytes) -> bool:
    """Tell whether this is a SELECT in any of its spellings."""
    return first_word(text) in (b"SELECT", b"WITH", b"FROM")


@dataclass(frozen=True)
class InsertHead:
    """An INSERT with rows: the statement up to its format, and where the rows begin."""

    statement: bytes
    format: str
    data_start: int
    # Where INSERT … SELECT … FROM input(…) calls that function, up to its opening bracket.
    input_call: tuple[int, int] | None = None

    def reading(self, path: str) -> bytes:
        """Have an INSERT … SELECT … FROM input(…) read its rows from a file."""
        if self.input_call is None:
            raise ValueError("this INSERT does not call input()")
        start, end = self.input_call
        rest = self.statement[end:]
        comma = b"" if rest.lstrip().startswith(b")") else b", "
        source = b"file(" + quote(path) + b", " + quote(self.format) + comma
        return self.statement[:start] + source + rest


def insert_head(text: bytes) -> InsertHead | None:
    """Find the head of an INSERT with rows; None for anything else (plain INSERT … SELECT, too).

    `text` may be cut off anywhere after the head.
    """
    stream = tokens(text)
    token = next(stream, None)
    if token is None or not token.is_word(b"INSERT"):
        return None
    # INSERT INTO [TABLE] name or INSERT INTO [TABLE] FUNCTION name(…); a name may be a keyword.
    for token in stream:
        if not token.is_word(b"INTO", b"TABLE", b"FUNCTION"):
            break
    previous = token
    for token in stream:
        part_of_name = token.depth > 0 or b"." in (token.text, previous.text)
        previous = token
        if part_of_name:
            continue
        if token.is_word(b"SELECT", b"WITH"):
            return _input_head(text, stream)
        if token.is_word(b"FROM", b"WATCH"):
            return None
        if token.is_word(b"VALUES"):
            return InsertHead(text[: token.start], "Values", token.end)
        if token.is_word(b"FORMAT"):
            return _format_head(text, token, next(stream, None))
    return None


def _input_head(text: bytes, stream: Iterator[Token]) -> InsertHead | None:
    call: tuple[int, int] | None = None
    previous: Token | None = None
    for token in stream:
        if previous is not None:
            if previous.is_word(b"INPUT") and token.text == b"(":
                call = (previous.start, token.end)
            is_clause = token.depth == 0 and token.is_word(b"FORMAT") and _ends_expression(previous)
            if is_clause and call is not None:
                return _format_head(text, token, next(stream, None), call)
        previous = token
    return None


def _format_head(
    text: bytes, clause: Token, name: Token | None, input_call: tuple[int, int] | None = None
) -> InsertHead | None:
    if name is None or name.kind != "word":
        return None
    statement = text[: clause.start]
    if name.is_word(b"VALUES"):
        return InsertHead(statement, "Values", name.end, input_call)
    # ClickHouse takes blanks and one line end between the format and the data.
    gap = _BEFORE_DATA.match(text, name.end)
    start = gap.end() if gap else name.end
    return InsertHead(statement, name.text.decode("latin-1"), start, input_call)


@dataclass(frozen=True)
class SelectTail:
    """Where a SELECT says how its result is written: the place of FORMAT (or the end), and it."""

    position: int
    format: str | None


def select_tail(text: bytes) -> SelectTail:
    """Find the FORMAT clause of a statement with a result."""
    end = len(text)
    previous: Token | None = None
    clause: list[Token] = []  # FORMAT, its name, SETTINGS: as far as they have been seen
    for token in tokens(text):
        if token.text == b";":
            continue
        end = token.end
        expected = previous is not None and _ends_expression(previous)
        previous = token
        if token.depth == 0 and expected and token.is_word(b"FORMAT"):
            clause = [token]
        elif len(clause) == 1:
            clause = [*clause, token] if token.kind == "word" else []
        elif len(clause) == 2:
            clause = [*clause, token] if token.is_word(b"SETTINGS") else []
    if len(clause) < 2:
        return SelectTail(end, None)
    return SelectTail(clause[0].start, clause[1].text.decode("latin-1"))


def _ends_expression(token: Token) -> bool:
    """Tell whether a clause may follow; else what follows is a name, even if it is `format`."""
    if token.kind == "sign":
        return token.text in (*_CLOSING, b"*")
    return token.text.upper() not in _BEFORE_NAME


def write_into(text: bytes, path: str, default_format: str) -> bytes:
    """Have a SELECT write its result to `path`, in its own format or else in `default_format`."""
    tail = select_tail(text)
    head = text[: tail.position] + b"\nINTO OUTFILE " + quote(path) + b" APPEND"
    if tail.format is None:
        return head + b" FORMAT " + identifier(default_format)
    return head + b" " + text[tail.position :]


def quote(value: str | bytes) -> bytes:
    """Write `value` as a ClickHouse string literal."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return b"'" + raw.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\0", b"\\0") + b"'"


def identifier(name: str) -> bytes:
    """Write `name` as a quoted ClickHouse identifier."""
    raw = name.encode("utf-8", "surrogateescape")
    return b"`" + raw.replace(b"\\", b"\\\\").replace(b"`", b"\\`") + b"`"
