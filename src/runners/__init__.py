"""Runners, which collect experience from environments."""

#: `runner:` key -> "module:class", the module relative to this package.
REGISTRY = {
    "episode": ".episode:EpisodeRunner",
    "parallel": ".episode:EpisodeRunner",
    "rollout": ".segments:SegmentRunner",
}
