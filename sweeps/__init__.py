"""Studies: described in YAML, launched on Ray, read back as a Pareto front."""
