"""A hospital: the pure session, local training, and the service around them."""
