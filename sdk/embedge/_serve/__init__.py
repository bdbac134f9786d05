"""Loaded bundles behind HTTP, as clients of OpenAI, TEI and Cohere call them."""
