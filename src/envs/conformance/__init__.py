"""The conformance suite of environments: random play that reports what breaks the contract of :mod:`..base`."""
