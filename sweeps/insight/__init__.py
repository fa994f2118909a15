"""What there is to learn from a sweep's trials: which knobs matter, how two differ, whether one can be had again."""
