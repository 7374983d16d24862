"""Pre-aggregation: what turns the updates into others, nearer to each other, before a rule; one kind per file."""
