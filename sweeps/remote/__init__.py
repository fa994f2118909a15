"""A sweep as a Ray job: sent from a laptop to a cluster's jobs server, followed, stopped; run there by ``inside``."""
