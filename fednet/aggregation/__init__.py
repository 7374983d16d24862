"""Robust aggregation on flat tensors: checks, Gram matrix, rules, weighted sums; no files, sockets or clocks."""
