"""Questions about videos: the benchmarks' own files, and what a reply to one is worth."""
