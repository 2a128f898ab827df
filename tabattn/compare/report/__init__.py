"""Report of a comparison: table for the terminal, CSV, JSON, and one self-contained HTML page."""

from tabattn.compare.report.write import Report, write

__all__ = ["Report", "write"]
