"""State-value functions: configuration, inputs, targets and regression."""
