"""The registry of environments by name; a module is imported when its environment is asked for."""

#: `env:` key -> "module:factory", the module relative to this package.
REGISTRY = {
    "maze": ".maze:Maze",
    "matrix": ".matrix:Matrix",
    "gymma": ".gymma:gymma",
    "smax": ".smax:Smax",
    "sc2": ".starcraft.sc2:sc2",
    "sc2v2": ".starcraft.sc2v2:sc2v2",
    "smaclite": ".starcraft.smaclite:smaclite",
    "mamujoco": ".mamujoco:Mamujoco",
    "gfootball": ".football:Football",
    "vmas": ".vmas:Vmas",
}

#: environments that pass arguments on to constructors of other packages -> the function that returns notices about them
PASSING = {"gymma": ".gymma:notices"}
