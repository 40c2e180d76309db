"""Running driftline: Dagster definitions, what is pushed to CloudWatch, and retraining."""
