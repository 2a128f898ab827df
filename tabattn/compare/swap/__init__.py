"""Swap table: a trained network with every mechanism that shares its weights, without retraining."""
