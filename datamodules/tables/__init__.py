"""Reading real tables: in files, from scikit-learn and from OpenML, as frames and as numbers."""
