"""In-context classification of tables."""
