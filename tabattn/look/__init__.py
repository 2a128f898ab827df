"""Pictures of a trained network without training: ``python -m tabattn.look CHECKPOINT``."""
