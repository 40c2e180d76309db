"""What is slow to make and never changed: the flights and the model, once a session."""

from __future__ import annotations

import pandas as pd
import pytest

from sandbox import flights_data, flights_training


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    """Give every flight of 2013."""
    return flights_data.load_flights()


@pytest.fixture(scope="session")
def training_rows(flights: pd.DataFrame) -> pd.DataFrame:
    """Give the rows that the demo trains on."""
    return flights_data.training_rows(flights)


@pytest.fixture(scope="session")
def model(training_rows: pd.DataFrame) -> flights_training.TrainedModel:
    """Give the model of the demo."""
    return flights_training.train(training_rows)
