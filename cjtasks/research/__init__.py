"""For researchers: comparison files of any tool, and what is found in them as tables and as a page."""
