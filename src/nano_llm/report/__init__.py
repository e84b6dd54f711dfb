"""From the files that runs leave to tables, figures and one page; computes no metric again, never imports torch."""
