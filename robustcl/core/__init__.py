"""What everything else stands on: errors, threats, objectives, the classifier, files, text."""
