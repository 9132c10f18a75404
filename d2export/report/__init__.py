"""`report.html`: what was kept, what it costs and what it saves, in one file to look at."""
