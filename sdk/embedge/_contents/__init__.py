"""Files of a bundle: opened once, compared with their hashes, and held against what may be in them."""
