"""Retraining: a challenger is trained on labelled production rows, and promoted only if better."""

from __future__ import annotations


class RetrainingError(Exception):
    """Nothing can be retrained as things stand. The message says why and what to do."""
