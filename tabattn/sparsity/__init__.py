"""Task of learned attention sparsity: predict which attention weights are zero from projected queries and keys."""
