"""Every key of config.json and tokenizer_config.json at values it should not have: refused, or the library's numbers.

    python -m tests.altered                      # every key and value; the last line is JSON
    python -m tests.altered --family bert --reference torch
    python -m tests.altered --tokenizers         # the same of tokenizer_config.json

The tests try a sample of the same.
"""
