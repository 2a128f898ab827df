"""Example scripts in Python, one for each task."""
