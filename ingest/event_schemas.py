"""JSON Schemas (2020-12) of the events, generated from ingest.event_types.

`make schemas` writes them to docs/events. They are for those who send events without
PredictionLogger, or want to check what they send: an event that the warehouse rejects does not
validate, wherever a schema can say so (it cannot tell 30 February where formats are not asserted,
and what is no JSON at all never comes before it).

Generated here and not by pydantic: its constraints would have to stand in the types, which the
model server loads, and the base installation depends on the Kafka client alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from ingest.event_types import LabelEvent, PredictionEvent

Schema = dict[str, Any]

_TYPES: Mapping[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",  # in JSON Schema an integer is a number, too
    bool: "boolean",
    NoneType: "null",
}


def prediction_schema() -> Schema:
    """Give the JSON Schema of a prediction event."""
    return _document("prediction", "Prediction event", PredictionEvent)


def label_schema() -> Schema:
    """Give the JSON Schema of a label event."""
    return _document("label", "Label event", LabelEvent)


def schema_files() -> dict[str, str]:
    """Give the text of each published file by its name."""
    return {
        f"{name}.schema.json": json.dumps(schema, indent=2) + "\n"
        for name, schema in (("prediction", prediction_schema()), ("label", label_schema()))
    }


def main() -> None:
    """Write the schemas to the folder that the command line names."""
    arguments = argparse.ArgumentParser(prog="ingest.event_schemas", description=main.__doc__)
    arguments.add_argument("folder", type=Path)
    folder: Path = arguments.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")


def _document(name: str, title: str, event: type) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:driftline:{name}:v1",
        "title": title,
        **_schema_of(event),
    }


def _schema_of(kind: Any) -> Schema:
    """Give the schema of a type; raises TypeError for one that events have no use for."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(_schema_of(arguments[0]), arguments[1:])
    if kind is Any:
        return {}
    if kind in _TYPES:
        return {"type": _TYPES[kind]}
    if is_typeddict(kind):
        return _object_schema(kind)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in (Union, UnionType):
        return _any_of([_schema_of(choice) for choice in arguments])
    if isinstance(origin, type) and issubclass(origin, Mapping) and arguments[0] is str:
        values = _schema_of(arguments[1])
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    raise TypeError(f"no JSON Schema is known for {kind}")


def _object_schema(kind: Any) -> Schema:
    properties, required = {}, []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        # Not __required_keys__: it does not see through annotations that are texts.
        is_required = kind.__total__ and get_origin(hint) is not NotRequired
        properties[name] = _schema_of(
            get_args(hint)[0] if get_origin(hint) is NotRequired else hint
        )
        if is_required:
            required.append(name)
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _any_of(choices: list[Schema]) -> Schema:
    if all(choice.keys() == {"type"} for choice in choices):
        return {"type": [choice["type"] for choice in choices]}
    flat = [inner for choice in choices for inner in choice.get("anyOf", [choice])]
    return {"anyOf": flat}


def _annotated(schema: Schema, annotations: tuple[Any, ...]) -> Schema:
    for annotation in annotations:
        if isinstance(annotation, str):
            # It stands first, and outdoes that of the type within.
            schema = {"description": annotation} | schema | {"description": annotation}
        else:
            schema = schema | annotation
    return schema


if __name__ == "__main__":
    main()
