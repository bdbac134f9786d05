"""What each architecture is, as data: its facts, its encoder, its head, the names of its weights."""
