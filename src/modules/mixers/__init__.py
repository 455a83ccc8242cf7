"""Networks that join the agents' action values to one of the team."""

#: `mixer:` key -> "module:class", the module relative to this package; also any ``nn.Module`` of one's own
REGISTRY = {
    "vdn": ".vdn:VDNMixer",
    "qmix": ".qmix:QMixer",
    "qtran": ".qtran:JointValues",
}
