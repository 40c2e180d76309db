"""The live page over the marts, read as the read-only analyst."""
