"""The same job, from a file of texts to saved vectors with their identifiers, as users of each system write it."""
