"""Aggregation rules: small pure functions from distances to who is selected; one rule per file, one registry."""
