"""Every test runs as a trial of one CPU does: with one thread, so that its numbers are a trial's numbers."""

import torch

torch.set_num_threads(1)
