"""How a flat buffer travels: as it is, rounded, packed without loss, or both."""
