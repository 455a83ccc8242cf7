"""Forms of the built-in network behind one interface (:class:`..agents.rnn.Network`): C, torch, numpy."""
