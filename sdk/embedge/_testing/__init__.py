"""What embedge.testing writes its tiny bundles with."""
