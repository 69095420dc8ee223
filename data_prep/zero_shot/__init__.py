"""Labels that a machine gives before any person does: made, imported, checked, described. Never the truth."""
