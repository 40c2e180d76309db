"""What was told to a cluster, without what changes from run to run or from release to release."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clickhouse_connect.driver.client import Client

from tests.cluster_front import CLUSTER

_COMMENT = re.compile(r"^\s*/\*.*?\*/\s*", re.DOTALL)
_CHANGES_ROWS = re.compile(
    r"(insert into \S+|delete from \S+ where) .*?( settings [\w =',]+)?$", re.IGNORECASE
)
_READS = re.compile(r"(select|with|explain|exists|set|show|describe)\b", re.IGNORECASE)
_TABLE = re.compile(r"`?\w+`?\.`?(\w+?)(?:__dbt_\w+?)?(?:_local)?`?(?=[\s(]|$)")
# Rows behind a statement, of a format that is no text.
_WITH_ROWS = re.compile(r"\sformat\s+arrow", re.IGNORECASE)


def heads(statements: Iterable[str], database: str) -> dict[str, list[str]]:
    """Give what was written, by model: each statement in a line, without what it selects."""
    found: dict[str, list[str]] = {}
    for statement in statements:
        text = " ".join(re.sub(r"--[^\n]*", "", _COMMENT.sub("", statement)).split())
        table = _TABLE.search(text)
        if table and not _READS.match(text):
            found.setdefault(table[1], []).append(_head(text).replace(database, "marts"))
    return found


def _head(text: str) -> str:
    text = re.sub(r"(__dbt_new_data_)[0-9a-f_]{8,}", r"\1ID", text)
    if changes := _CHANGES_ROWS.match(text):
        return f"{changes[1]} ...{changes[2] or ''}"
    # The columns of a contract, a seed or a Python model.
    text = re.sub(rf'("{CLUSTER}") \(.*?\) (engine = )', r"\1 (...) \2", text)
    return re.sub(r" (empty )?as \( .*", r" \1as (...)", text)


def listed(found: dict[str, list[str]], models: Iterable[str]) -> str:
    """Write the statements of some models, in the order in which they were sent."""
    return "\n".join(
        "\n".join([f"-- {model}", *(f"{head};" for head in found[model]), ""]) for model in models
    )


def parse_all(client: Client, statements: Iterable[str]) -> int:
    """Let the engine parse each statement as it was sent; give how many there were."""
    count = 0
    for statement in statements:
        if not _WITH_ROWS.search(statement):
            client.query("select length(formatQuery(%(sent)s))", parameters={"sent": statement})
            count += 1
    return count
