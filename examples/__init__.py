"""One short script per task, from Python."""
