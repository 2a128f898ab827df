"""Shared building blocks: projections, blocks that fold axes, density heads."""
