"""The parts of the Dagster definitions, by system."""
