"""Datamodules of inference between sequences: Gaussian processes, and columns of real tables."""
