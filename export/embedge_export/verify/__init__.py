"""The written bundle is asked what the checkpoint was asked, through the SDK, and judged by its answers."""
