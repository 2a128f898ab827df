"""What datamodules and tasks agree on: batches, columns, errors and checks. All that datamodules import of tabattn."""
