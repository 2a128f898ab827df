"""Hyperparameter sweep with Optuna over any flag of the command line: ``python -m tabattn.sweep --help``."""
