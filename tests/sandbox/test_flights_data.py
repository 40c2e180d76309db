"""The flights of the demo, against facts counted in the package's files by hand."""

from __future__ import annotations

import uuid

import pandas as pd

from sandbox import flights_data


def test_every_flight_stands_once_in_time_order(flights: pd.DataFrame) -> None:
    assert len(flights) == 336_776
    assert flights["flight_key"].is_unique
    assert flights["predicted_at"].is_monotonic_increasing


def test_training_and_replay_share_no_flight_and_miss_only_the_unlabelled(
    flights: pd.DataFrame,
) -> None:
    training = flights_data.training_rows(flights)
    replay = flights_data.replay_rows(flights)
    assert not set(training["flight_key"]) & set(replay["flight_key"])
    assert len(training) == 77_911
    assert len(replay) == 255_987
    assert training["label"].notna().all()
    assert len(flights) - len(training) - len(replay) == 2_878
    assert training["predicted_at"].max() < replay["predicted_at"].min()


def test_label_is_missing_for_the_flights_that_never_arrived(flights: pd.DataFrame) -> None:
    assert flights["label"].isna().sum() == 9_430
    assert (flights["label"].isna() == flights["arrived_at"].isna()).all()
    assert (flights["label"] == "late").sum() == 77_630


def test_label_is_late_beyond_15_minutes(flights: pd.DataFrame) -> None:
    by_key = flights.set_index("flight_key")
    # Two of the first flights of the year, 11 and 33 minutes behind schedule.
    assert by_key.loc["2013-01-01T10:00:00Z UA1545", "label"] == "on_time"
    assert by_key.loc["2013-01-01T10:00:00Z AA1141", "label"] == "late"


def test_times_are_those_of_a_known_flight(flights: pd.DataFrame) -> None:
    # UA1545: scheduled 05:15 in New York, to arrive 08:19 in Houston; arrived 08:30 there.
    flight = flights.set_index("flight_key").loc["2013-01-01T10:00:00Z UA1545"]
    assert flight["predicted_at"] == pd.Timestamp("2013-01-01T09:15Z")
    assert flight["arrived_at"] == pd.Timestamp("2013-01-01T14:30Z")
    assert flight["weekday"] == "tuesday"
    assert flight["scheduled_hour"] == 5
    assert flight["temperature"] == 39.02
    assert (flight["plane_age"], flight["plane_seats"]) == (14, 149)


def test_every_arrival_follows_its_prediction(flights: pd.DataFrame) -> None:
    hours = (flights["arrived_at"] - flights["predicted_at"]).dropna().dt.total_seconds() / 3600
    assert hours.min() > 1
    assert hours.max() < 36


def test_late_departures_of_new_years_eve_fall_into_the_next_year_in_utc(
    flights: pd.DataFrame,
) -> None:
    assert flights["predicted_at"].max() == pd.Timestamp("2014-01-01T03:59Z")
    assert flights["month"].iloc[-1] == 12


def test_weather_is_joined_on_nearly_every_flight_and_wind_gust_on_few(
    flights: pd.DataFrame,
) -> None:
    missing = flights[list(flights_data.NUMERIC_FEATURES)].isna().mean()
    assert missing["temperature"] < 0.006
    assert missing["wind_gust"] > 0.7
    eve = flights[flights["predicted_at"] >= pd.Timestamp("2013-12-31T12:00Z")]
    assert eve["temperature"].isna().mean() > 0.9


def test_move_keeps_weekdays_and_ends_just_before_now(flights: pd.DataFrame) -> None:
    now = pd.Timestamp("2026-11-22T10:00Z")
    weeks = flights_data.weeks_until(flights, now)
    moved = flights_data.move(flights, weeks)
    last = max(moved["predicted_at"].max(), moved["arrived_at"].max())
    assert now - pd.Timedelta(weeks=1) < last <= now
    assert (moved["predicted_at"].dt.day_of_week == flights["predicted_at"].dt.day_of_week).all()
    assert flights["predicted_at"].iloc[0] == pd.Timestamp("2013-01-01T09:15Z")


def test_prediction_ids_are_uuid7_of_the_prediction_time_and_repeatable(
    flights: pd.DataFrame,
) -> None:
    some = flights.iloc[::1000]
    ids = flights_data.prediction_ids(some)
    assert ids == flights_data.prediction_ids(some)
    assert ids == sorted(ids)
    parsed = uuid.UUID(ids[0])
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == some["predicted_at"].iloc[0].value // 1_000_000
    assert len(set(flights_data.prediction_ids(flights))) == len(flights)
    assert not set(ids) & set(flights_data.prediction_ids(flights_data.move(some, 1)))
