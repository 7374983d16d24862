"""A live web page of a run: read-only, from its folder."""
