"""Random streams as tensors: numpy's own numbers, worked out for all slots at once on any device of torch."""
