"""An entity that was erased is in no mart, neither after further runs nor after a full refresh."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from ingest.erasure.operations import Erasure
from ingest.erasure.plan import Entity
from ingest.events import encode_label, encode_prediction
from tests.dbt_project.conftest import MakeWarehouse
from tests.dbt_project.warehouse import Message, Warehouse

pytestmark = pytest.mark.slow

START = datetime(2025, 3, 1, tzinfo=UTC)
MARTS = (
    *("+fct_predictions", "+fct_rejected_events", "+rpt_service_live"),
    "int_performance_orphan_labels_latest",
    "+int_performance_orphan_labels",
)
ROWS = 30
MINE = range(0, ROWS, 3)


def prediction(number: int, *, entity: str | None, score: float = 0.5) -> bytes:
    return encode_prediction(
        model_name="loans",
        model_version="1",
        prediction_id=f"id-{number:02}-",
        predicted_at=START + timedelta(hours=number),
        features={"amount": number},
        score=score,
        entity_id=entity,
    ).value


def label(number: int, value: str, hours: int) -> bytes:
    return encode_label(
        model_name="loans",
        prediction_id=f"id-{number:02}-",
        label=value,
        observed_at=START + timedelta(hours=number + hours),
        source="test",
    ).value


def entity_of(number: int) -> str:
    return "me" if number in MINE else "another"


@pytest.fixture
def warehouse(make_warehouse: MakeWarehouse) -> Warehouse:
    """Land predictions with all that can be said of them: twins, labels, revisions, rejects."""
    made = make_warehouse("erased_marts", seeds={"models": ["loans,binary,yes,0.5,1,0,1,,,"]})
    predictions = [prediction(number, entity=entity_of(number)) for number in range(ROWS)]
    # Sent twice, once without the entity, and once with another score.
    predictions += [prediction(number, entity=None) for number in range(4)]
    predictions += [prediction(number, entity=entity_of(number), score=0.9) for number in (3, 4)]
    # No valid events, but they name whom they are about.
    predictions += [
        prediction(number, entity=entity_of(number)).replace(b"T", b" at ") for number in (6, 7)
    ]
    labels = [label(number, "yes", 1) for number in range(20)]
    labels += [label(number, "no", 2) for number in range(10)]
    labels += [label(99, "no", 2), label(6, "no", 3).replace(b"test", b""), b"{"]
    made.land(Message("predictions", value) for value in predictions)
    made.land(Message("labels", value) for value in labels)
    made.run("--select", *MARTS)
    return made


def erasure(warehouse: Warehouse, crash_point: Callable[[str], None]) -> Erasure:
    return Erasure(
        warehouse.server.client(autogenerate_session_id=False),
        Entity("loans", "me"),
        raw_database=warehouse.raw_database,
        database=warehouse.database,
        store=None,
        crash_point=crash_point,
    )


def tables_with_traces(warehouse: Warehouse) -> list[str]:
    """Name the tables, of raw and marts, that hold an id of the entity's predictions."""
    tables = warehouse.query(
        "select concat(database, '.', name) as name from system.tables "
        "where database in ({marts:String}, {raw:String}) and engine like '%MergeTree' "
        "order by name",
        marts=warehouse.database,
        raw=warehouse.raw_database,
    )
    ids = [f"id-{number:02}-" for number in MINE]
    return [
        table["name"]
        for table in tables
        if warehouse.query(
            f"select 1 from {table['name']} "
            "where multiSearchAny(toString(tuple(*)), {ids:Array(String)}) limit 1",
            ids=ids,
        )
    ]


def state(warehouse: Warehouse) -> dict[str, list[dict[str, object]]]:
    """Give what people read: predictions, rejects, orphans, and the last hour's counts."""
    return {
        "predictions": warehouse.query(
            "select * except (landed_at) from {database}.fct_predictions order by prediction_id"
        ),
        "rejects": warehouse.query(
            "select kafka_offset, reject_reason, raw_value from {database}.fct_rejected_events "
            "order by event_type, kafka_offset"
        ),
        "orphans": warehouse.query(
            "select prediction_id from {database}.int_performance_orphan_labels_latest"
        ),
    }


def test_entity_is_in_no_mart_once_it_is_erased(warehouse: Warehouse) -> None:
    before = state(warehouse)
    assert len(before["predictions"]) == ROWS
    assert len(before["rejects"]) == 3
    row_level = set(tables_with_traces(warehouse))
    found = erasure(warehouse, lambda _: None).look()
    assert (found.predictions, found.prediction_events, found.label_events) == (10, 14, 12)
    # Every table that has rows of single events is known by its columns.
    assert row_level - {
        f"{warehouse.raw_database}.prediction_events",
        f"{warehouse.raw_database}.label_events",
    } == {f"{warehouse.database}.{mart}" for mart in found.marts}
    assert {"int_predictions", "int_labeled_predictions", "int_rejected_events"} < set(found.marts)

    class KilledError(Exception):
        pass

    def crash(name: str) -> None:
        if name == "after_mart":
            raise KilledError

    with pytest.raises(KilledError):
        erasure(warehouse, crash).run()
    done = erasure(warehouse, lambda _: None).run()
    assert done.was_interrupted
    assert tables_with_traces(warehouse) == []

    after = {
        "predictions": [row for row in before["predictions"] if row["entity_id"] != "me"],
        "rejects": [row for row in before["rejects"] if "id-06-" not in str(row["raw_value"])],
        "orphans": before["orphans"],
    }
    assert len(after["predictions"]) == 20
    assert len(after["rejects"]) == 2
    assert state(warehouse) == after
    # What was erased has just landed, so that the next run looks at it again.
    for full_refresh in (False, True):
        warehouse.run("--select", *MARTS, full_refresh=full_refresh)
        assert state(warehouse) == after
        assert tables_with_traces(warehouse) == []
    [live] = warehouse.query(
        "select sum(prediction_count) as predictions, sum(rejected_count) as rejects "
        "from {database}.rpt_service_live"
    )
    assert live == {"predictions": 20, "rejects": 1}
