"""In-context classification of tables: task, network, shipped weights and scikit-learn estimator."""
