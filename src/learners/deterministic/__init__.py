"""Learners of deterministic policies, improved by the gradient of centralised critics: MADDPG and MATD3."""
