"""The events on the topics, as types: what a valid prediction and a valid label are.

`encode_prediction` and `encode_label` write them, the staging models read them, and the JSON
Schemas in docs/events are generated from them (ingest.event_schemas): a text among the annotations
of a field is its description there, a dict is further keywords of its schema.

What the warehouse rejects is not valid. A value that is only of no use, such as a list for a
feature or the text "NaN" for a score, does not cost the event: it counts as invalid in the data
quality figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

Name = Annotated[str, {"minLength": 1}]

Moment = Annotated[
    str,
    {
        "format": "date-time",
        # What a validator that leaves formats alone can still see. The years are those that the
        # warehouse takes; 30 February needs the format.
        "pattern": (
            "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
            "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?"
            "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
        ),
    },
]

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""A number; the texts stand for what JSON has no number for, and count as invalid."""


class Outcome(TypedDict, total=False):
    """What the model answered; which parts there are depends on its task."""

    score: Annotated[Number | None, "Binary: the probability of the positive class."]
    value: Annotated[Number | None, "Regression: the predicted value."]
    label: Annotated[str | float | bool | None, "Multiclass: the predicted class."]
    scores: Annotated[Mapping[str, Number], "Multiclass: the score of each class."]


class PredictionEvent(TypedDict):
    """A prediction of a model, on the topic `predictions`; the message's key is prediction_id."""

    schema_version: Literal[1]
    prediction_id: Annotated[
        Name, "Names the prediction; its label says it again. PredictionLogger makes a UUIDv7."
    ]
    model_name: Name
    model_version: Name
    predicted_at: Annotated[Moment, "When the model answered: RFC 3339."]
    features: Annotated[
        Mapping[str, Any],
        "What the model saw, after preprocessing, by name: numbers, texts, booleans and nulls. "
        "A list, an object and, for a numeric feature, a text count as invalid.",
        {"propertyNames": {"not": {"enum": ["__score__", "__prediction__", "__label__"]}}},
    ]
    prediction: NotRequired[Outcome | None]
    status: NotRequired[
        Annotated[str, "`ok`, as when it is absent; anything else is an error of the service."]
    ]
    latency_ms: NotRequired[Annotated[Number | None, "How long the caller waited."]]
    segments: NotRequired[
        Annotated[
            Mapping[str, str | float | bool | None],
            "The populations that the row belongs to, as texts. Null and absent are `__missing__`.",
        ]
    ]
    entity_id: NotRequired[Annotated[str, "Whom or what the prediction is about."]]
    metadata: NotRequired[Annotated[Mapping[str, Any], "Kept as it is, and never judged."]]
    is_truncated: NotRequired[
        Annotated[
            Literal[False],
            "True on the marker that stands for an event too large to send; it is rejected.",
        ]
    ]


class LabelEvent(TypedDict):
    """The observed truth of a prediction, on the topic `labels`; a further one revises it."""

    schema_version: Literal[1]
    prediction_id: Annotated[Name, "The prediction that it is the truth of."]
    model_name: Name
    label: Annotated[str | float | bool, "The true class, or the true value.", {"minLength": 1}]
    observed_at: Annotated[Moment, "When it became known: RFC 3339. The latest label counts."]
    source: NotRequired[Annotated[str, "Where it comes from; the greater one wins a tie of times."]]
