"""A bundle beside other libraries with the same checkpoint: a process each, in turn, and a picture of what came out."""
