"""robustcore on Ray workers: one trial of a sweep, in place or as a Ray Train run."""
