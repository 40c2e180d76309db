"""The loader, as seen from outside: its lag, and the raw tables that it fills."""
