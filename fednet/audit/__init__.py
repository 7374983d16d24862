"""The audit chain: what a run's rounds did, signed by the coordinator, each record sealing the one before. Pure."""
