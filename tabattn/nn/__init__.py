"""Bricks shared by the tasks: projections, blocks that fold axes, embeddings."""
