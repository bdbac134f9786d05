"""A loaded model put together from a bundle and its options."""
