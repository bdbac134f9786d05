"""Small seeded checkpoints of every make, each exported and compared with its own library by text.

    python -m tests.generated --count 300

`draw(seed)` says what a checkpoint is (its modules, names, prompts, settings, network), `write` lets the libraries save
it, `attempt` exports it with the export's own witness switched off, and asks the library itself. A checkpoint is equal,
or refused by a sentence; nothing else. OPTIONS says what may be drawn; an option that is switched off is known to fail.
"""
