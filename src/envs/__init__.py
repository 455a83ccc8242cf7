"""The registry of environments by name; a module is imported when its environment is asked for."""

#: `env:` key -> "module:factory", the module relative to this package.
REGISTRY = {
    "maze": ".maze:Maze",
    "matrix": ".matrix:Matrix",
    "predator_prey": ".predator_prey:PredatorPrey",
    "gymma": ".gymma:gymma",
    "smax": ".smax:Smax",
    "overcooked": ".overcooked:Overcooked",
    "sc2": ".starcraft.sc2:sc2",
    "sc2v2": ".starcraft.sc2v2:sc2v2",
    "smaclite": ".starcraft.smaclite:smaclite",
    "mamujoco": ".mamujoco:Mamujoco",
    "gfootball": ".football:Football",
    "digital": ".tabular:Digital",
    "navigation": ".tabular:Navigation",
    "blocker": ".tabular:Blocker",
    "landmarks": ".tabular:Landmarks",
    "vmas": ".vmas:Vmas",
}

#: environments that pass arguments on to constructors of other packages -> the module of ``notices`` about them, and of
#: ``as_typed``, which reads them as those constructors' types
PASSING = {"gymma": ".gymma"}
