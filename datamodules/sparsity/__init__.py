"""Datamodule of recorded queries and keys, from which attention graphs are learned."""
