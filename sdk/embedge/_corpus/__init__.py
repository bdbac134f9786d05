"""Files of texts become rows of numbers on disk, and are searched there; constant memory, whole or resumable."""
