"""For researchers: files of comparisons, what is found in them as tables and as a page, and simulated sessions."""
