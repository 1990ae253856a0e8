"""What certificates claim and what attacks do, as plain data. Nothing here loads torch."""
