"""A described encoder in plain numpy, one text at a time; written from the structure, apart from graph/built."""
