"""The stand-in's modules, by the package's names."""
