"""Fast forms of the built-in network: C, TorchScript, numpy."""
