"""The command line: one module per group of commands. Only here are things printed."""
