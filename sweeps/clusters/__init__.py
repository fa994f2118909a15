"""Machines to run sweeps on: the shipped manifests filled in, and any manifest checked without a cloud or a cluster."""
