"""Real tables from files, scikit-learn and OpenML, as data frames and as numbers."""
