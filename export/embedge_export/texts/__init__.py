"""Texts that every export asks, built in so that nothing is downloaded."""
