"""Whole networks, plain modules."""
