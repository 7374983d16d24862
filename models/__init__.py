"""Architectures, and how to load and save them."""
