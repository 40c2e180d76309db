"""Looks at landed offsets: each once, none missing, in order."""
