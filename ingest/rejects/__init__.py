"""Rejected events: what they are, and judging them again."""
