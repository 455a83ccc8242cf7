"""Networks: agents' policies and critics."""

#: `agent:` key -> "module:class", the module relative to this package.
REGISTRY = {
    "rnn": ".agents.rnn:Network",
    "roma": ".agents.roles:RoleNetwork",
}
