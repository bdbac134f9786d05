"""Which prompts run together, and on which lane."""
