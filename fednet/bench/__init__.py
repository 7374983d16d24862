"""What this machine reaches, beside its limit."""
