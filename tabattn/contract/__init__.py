"""Contract between datamodules and tasks: batches, columns, errors and checks; imported by both."""
