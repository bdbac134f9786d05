"""What this machine is: its processors, its memory, its GPUs."""
