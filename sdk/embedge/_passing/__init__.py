"""Bundles on their way: into an archive, out of one, over a network, each file held against the manifest on arrival."""
