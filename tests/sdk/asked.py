"""Texts that the SDK's tests ask: short, empty, long, of several scripts."""

TEXTS = ["food", "how do plants carry water", "", "city light " * 10, "🙂", "berlin"]
