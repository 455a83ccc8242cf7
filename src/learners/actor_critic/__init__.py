"""Actor-critics whose critics are action values: COMA and Pareto actor-critic, and the step of all policy gradients."""
