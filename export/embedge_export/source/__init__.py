"""A checkpoint's files become checked facts; nothing here builds or writes."""
