"""oamarl: multi-agent reinforcement learning in the EPyMARL style, with the off-agent methods OAPPO and OATRPO."""

__version__ = "0.1.0"
