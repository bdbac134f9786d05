"""PyInstaller's hook: what embedge imports on use for extras, and no frozen program needs for a bundle of its own."""

excludedimports = [
    "IPython",
    "cryptography",
    "embedge_export",
    "faiss",
    "huggingface_hub",
    "lancedb",
    "pyarrow",
    "torch",
    "transformers",
    "umap",
    "usearch",
]
"""A program that imports one of them itself has it all the same."""
