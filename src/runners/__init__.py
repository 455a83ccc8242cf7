"""Runners: how experience is collected."""

#: `runner:` key -> "module:class", the module relative to this package.
REGISTRY = {
    "episode": ".episode:EpisodeRunner",
    "parallel": ".episode:EpisodeRunner",
    "rollout": ".rollout:RolloutRunner",
}
