"""Datamodules of in-context classification: synthetic tables, and tasks cut from real ones."""
