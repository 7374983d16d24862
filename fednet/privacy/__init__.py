"""Client-level differential privacy: the noise, and the account of what it has spent."""
