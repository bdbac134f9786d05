"""A bundle on disk: its files, its manifest, and a folder that is whole or not there."""
