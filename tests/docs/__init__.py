"""README and docs/ do what they say: every block is run as a reader would run it."""
