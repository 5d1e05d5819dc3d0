"""Sealed evidence: a run, what it was judged by and the verdict, in one file that somebody answers for by name."""
