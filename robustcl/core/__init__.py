"""What everything else stands on: files, schemas and text. Nothing here loads torch."""
