"""Simple baselines on the evaluation data of a comparison, and the oracles that its tasks log."""
