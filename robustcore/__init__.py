"""Fine-tune one encoder adversarially, attack it, measure it: pure PyTorch that has never heard of Ray."""
