"""What a run tells people: metrics, terminal progress, pictures."""
