"""What people read of an export: report.html, README.md and their words."""
