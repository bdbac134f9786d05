"""The witness: a checkpoint's own library, asked by text through its public door, beside the bundle made of it."""
