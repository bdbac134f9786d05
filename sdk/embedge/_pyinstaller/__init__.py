"""What freezes a program that uses embedge: PyInstaller finds the hook here by an entry point."""
