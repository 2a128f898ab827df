"""Tasks of inference between sequences: from Gaussian processes and from columns of real tables."""
