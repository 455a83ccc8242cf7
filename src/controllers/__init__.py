"""Controllers ('mac'): who acts with which network."""

#: `mac:` key -> "module:class", the module relative to this package.
REGISTRY = {
    "basic_mac": ".basic_mac:BasicMAC",
    "reuse_mac": ".reuse_mac:ReuseMAC",
}
