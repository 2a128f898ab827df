"""Benchmark programs; each writes a report that names the machine and the commit."""
