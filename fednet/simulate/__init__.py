"""Attacks and virtual hospitals."""
