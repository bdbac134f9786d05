"""Frameworks with the adapters for them, each against the real package: `make test-frameworks`."""
