"""Configuration: typed keys, YAML files and their layers, the command line, plug-ins."""
