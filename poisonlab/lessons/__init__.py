"""The small computations behind the lessons: each takes about a second on one CPU core and knows no browser."""
